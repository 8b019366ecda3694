"""`edgelstm quantize`: from files to files, and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from click.testing import CliRunner, Result
from stepping import roughen, signals

from edgelstm.artifact import Artifact
from edgelstm.cli import main
from edgelstm.session import Session

layers = keras.layers
DATA = signals(400)

CELLS = """
import keras


@keras.saving.register_keras_serializable(package="mine")
class HoldCell(keras.layers.Layer):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight((shape[-1], self.units), name="kernel")

    def call(self, x, states, training=False):
        h = 0.5 * states[0] + 0.5 * keras.ops.tanh(keras.ops.matmul(x, self.kernel))
        return h, [h]

    def get_config(self):
        return super().get_config() | {"units": self.units}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and recordings."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(3)
    x = keras.Input((None, 3))
    y = layers.Dense(3)(layers.LSTM(16, return_sequences=True)(x))
    roughen(keras.Model(x, y)).save(folder / "pump.keras")
    y = layers.Bidirectional(layers.LSTM(4))(x)
    roughen(keras.Model(x, layers.Dense(2)(y))).save(folder / "both.keras")
    scope: dict[str, Any] = {"__name__": "cells"}
    exec(CELLS, scope)  # noqa: S102  # as a user's training script defines it
    y = layers.RNN(scope["HoldCell"](4), return_sequences=True)(x)
    roughen(keras.Model(x, layers.Dense(2)(y))).save(folder / "own.keras")
    (folder / "cells.py").write_text(CELLS)
    keras.saving.get_custom_objects().pop("mine>HoldCell")  # here nobody has seen it
    for name, rows in {"a": DATA[:250], "b": DATA[250:]}.items():
        lines = [",".join(f"{value:.5f}" for value in row) for row in rows]
        (folder / f"{name}.csv").write_text("\n".join(["p,q,r", *lines]) + "\n")
    return folder


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job runs here, not in a process of its own, which takes seconds to load TensorFlow.

    That process has tests of its own, and the first tests below go through it.
    """

    def run(job: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return job(*arguments, **options)

    monkeypatch.setattr("edgelstm_quantize.isolated.run_isolated", run)


def invoke(folder: Path, tmp_path: Path, *arguments: str, model: str = "pump.keras") -> Result:
    command = ["quantize", str(folder / model), "--calibration", str(folder / "a.csv")]
    return CliRunner().invoke(main, [*command, "-o", str(tmp_path / "out.tflite"), *arguments])


def refusal(result: Result, tmp_path: Path) -> str:
    """The one sentence that a command ends with; it leaves no file."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out.tflite").exists()
    return line


def test_the_figures_as_json(files: Path, tmp_path: Path) -> None:
    """Through the program itself, its own process and all."""
    output = tmp_path / "pump.tflite"
    arguments = [
        *("quantize", files / "pump.keras", "-o", output, "--json"),
        *("--calibration", files / "a.csv", "--calibration", files / "b.csv"),
        *("--recipe", "int8-weight", "--device", "pi4"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "edgelstm", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    figures = json.loads(done.stdout)
    manifest = Artifact.read(output).manifest
    assert figures["recipe"] == manifest.recipe == "int8-weight"
    assert figures["mode"] == "stream"
    assert figures["window"] is None
    assert figures["bytes"] == manifest.flatbuffer_bytes
    assert figures["float_bytes"] > figures["bytes"]
    assert figures["channels"] == ["p", "q", "r"]
    assert figures["fidelity"]["steps"] == 80  # a fifth of both recordings together
    assert 0 < figures["fidelity"]["relative_error"] < figures["fidelity"]["max_error"] < 0.05
    assert set(figures["fidelity"]) >= {"drift", "correlation"}
    assert {"name", "version", "count"} == set(figures["ops"][0])
    assert figures["runtimes"] == manifest.runtimes
    assert 0 < figures["seconds"] < 200
    assert [trial["recipe"] for trial in figures["trials"]] == ["int8-weight"]
    assert manifest.name == "pump"
    assert f"Wrote {output}" in done.stderr


def test_an_error_of_the_conversion_is_one_sentence(files: Path, tmp_path: Path) -> None:
    message = refusal(invoke(files, tmp_path, model="both.keras"), tmp_path)
    assert "Bidirectional" in message
    assert "--window N" in message


@pytest.mark.usefixtures("at_once")
def test_auto_shows_what_it_tried(files: Path, tmp_path: Path) -> None:
    result = invoke(files, tmp_path, "--recipe", "auto", "--max-error", "20%", "--json")
    assert result.exit_code == 0, result.output
    trials = {trial["recipe"]: trial for trial in json.loads(result.stdout)["trials"]}
    assert set(trials) == {"int8", "int8-float", "int8-weight", "int16x8", "float32"}
    (taken,) = [name for name, trial in trials.items() if not trial["remark"]]
    sizes = {name: trial["bytes"] for name, trial in trials.items()}
    assert sizes[taken] == min(sizes.values())
    table = [line for line in result.stderr.splitlines() if line.startswith("  int8-weight")]
    assert len(table) == 1
    assert f"{sizes['int8-weight']:,} bytes" in table[0]
    assert next(x for x in result.stderr.splitlines() if x.endswith("taken")).split()[0] == taken
    assert Artifact.read(tmp_path / "out.tflite").manifest.recipe == taken


@pytest.mark.usefixtures("at_once")
def test_the_largest_error_is_kept(files: Path, tmp_path: Path) -> None:
    result = invoke(files, tmp_path, "--recipe", "int8-weight", "--max-error", "0.001%")
    assert "more than the 0.00% that are" in refusal(result, tmp_path)
    result = invoke(files, tmp_path, "--recipe", "int8-weight", "--max-error", "150%")
    assert result.exit_code == 2
    assert "between 0 and 100%" in result.stderr


@pytest.mark.usefixtures("at_once")
def test_a_window_and_a_hop(files: Path, tmp_path: Path) -> None:
    options = ("--window", "5", "--hop", "2", "--recipe", "float32")
    result = invoke(files, tmp_path, *options, model="both.keras")
    assert result.exit_code == 0, result.output
    assert "window 5" in result.stdout
    artifact = Artifact.read(tmp_path / "out.tflite")
    assert (artifact.manifest.window, artifact.manifest.hop) == (5, 2)
    with Session(artifact) as session:
        given = [session.step(x) is not None for x in DATA[:9]]
    assert given == [i in (4, 6, 8) for i in range(9)]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("device", "recipe", "runtimes"),
    [
        ("pi4", "int8-float", {"ai-edge-litert"}),
        ("pi-32bit", "int8-weight", {"ai-edge-litert", "tflite-runtime"}),
        ("coral-usb", "int8", {"ai-edge-litert", "tflite-runtime"}),
    ],
)
def test_a_device_has_its_recipe(
    device: str,
    recipe: str,
    runtimes: set[str],
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # without the compiler for the Edge TPU
    result = invoke(files, tmp_path, "--device", device)
    assert result.exit_code == 0, result.output
    manifest = Artifact.read(tmp_path / "out.tflite").manifest
    assert manifest.recipe == recipe
    assert set(manifest.runtimes) == runtimes
    told = "coral.ai/docs/edgetpu/compiler" in result.stderr
    assert told == (device == "coral-usb")


COMPILER = """#!/bin/sh
echo "Edge TPU Compiler version 16.0.384591198"
echo "{message}"
echo "Operator                       Count      Status"
echo
echo "FULLY_CONNECTED                3          Mapped to Edge TPU"
echo "SPLIT                          1          Operation not supported"
cp "$4" "$3/model_edgetpu.tflite"
exit {code}
"""


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("code", [0, 1])
def test_the_compiler_of_the_edge_tpu_is_run_where_it_is(
    code: int, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "bin" / "edgetpu_compiler"
    compiler.parent.mkdir()
    compiler.write_text(COMPILER.format(message="Internal compiler error." * code, code=code))
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    result = invoke(files, tmp_path, "--device", "coral-usb", "--json")
    assert result.exit_code == 0, result.output
    artifact = Artifact.read(tmp_path / "out.tflite")
    with Session(artifact) as session:  # whatever becomes of the other, this one runs
        assert session.verify() is None
    compiled = tmp_path / "out_edgetpu.tflite"
    figures = json.loads(result.stdout)["edge_tpu"]
    if code:
        assert (figures, compiled.exists()) == (None, False)
        assert "failed (exit code 1)" in result.stderr
    else:
        assert (figures["mapped"], figures["operations"], figures["share"]) == (3, 4, 0.75)
        assert "3 of 4 operations (75%)" in result.stderr
        assert Artifact.read(compiled).manifest.states == artifact.manifest.states


@pytest.mark.usefixtures("at_once")
def test_own_classes_come_from_a_file(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = refusal(invoke(files, tmp_path, model="own.keras"), tmp_path)
    assert "--custom-objects" in asked
    none = invoke(files, tmp_path, "--custom-objects", "none.py", model="own.keras")
    assert "none.py" in refusal(none, tmp_path)
    path = str(files / "cells.py")
    result = invoke(files, tmp_path, "--custom-objects", path, model="own.keras")
    assert result.exit_code == 0, result.output
    keras.saving.get_custom_objects().pop("mine>HoldCell")
    monkeypatch.syspath_prepend(str(files))
    sys.modules.pop("cells", None)
    options = ("--custom-objects", "cells", "--force", "--mode", "stream")
    assert invoke(files, tmp_path, *options, model="own.keras").exit_code == 0


@pytest.mark.usefixtures("at_once")
def test_files_are_replaced_only_when_asked(files: Path, tmp_path: Path) -> None:
    (tmp_path / "out.tflite").write_text("mine")
    result = invoke(files, tmp_path, "--recipe", "float32")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert (tmp_path / "out.tflite").read_text() == "mine"
    assert invoke(files, tmp_path, "--recipe", "float32", "--force").exit_code == 0
    assert Artifact.read(tmp_path / "out.tflite").manifest.recipe == "float32"


@pytest.mark.usefixtures("at_once")
def test_a_short_calibration_is_warned_of(files: Path, tmp_path: Path) -> None:
    result = invoke(files, tmp_path, "--rows", "0:150", "--recipe", "float32")
    assert result.exit_code == 0, result.output
    assert "Warning: The calibration has 150 steps" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mode", "stream", "--window", "5"), "A stream has no window"),
        (("--hop", "2"), "--mode window"),
        (("--device", "pi99"), "pi99"),
        (("--recipe", "int16x8", "--device", "coral-usb"), "int8 only"),
        (("--rows", "0:30"), "at least 40"),
        (("--columns", "p,q"), "the model takes 3"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    arguments: tuple[str, ...], said: str, files: Path, tmp_path: Path
) -> None:
    assert said in refusal(invoke(files, tmp_path, *arguments), tmp_path)


def test_click_refuses_what_it_knows_to_be_wrong(files: Path, tmp_path: Path) -> None:
    for arguments in (("--recipe", "int4"), ("--window", "0"), ("--runtime", "onnx")):
        result = invoke(files, tmp_path, *arguments)
        assert result.exit_code == 2
        assert arguments[0] in result.stderr
