from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import ArrayLike, NDArray

from edgelstm.artifact import Artifact
from edgelstm.backends import Graph, Wiring, open_graph
from edgelstm.cli import main
from edgelstm.comparison import (
    Difference,
    Outputs,
    Speed,
    check_comparable,
    compare_outputs,
    score_change,
    time_in_turns,
)
from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Channel, Manifest, Port
from edgelstm.pipeline import Pipeline
from edgelstm.reading import Reading
from edgelstm.session import Session

Readings = NDArray[np.float64]
DATA = Path(__file__).parents[1] / "data"
TIMES = np.arange(500, dtype=np.float64) * 60 + 1e9


def channel(name: str, mean: float = 0.0, std: float = 1.0) -> Channel:
    return Channel(name, "", mean, std, None)


def with_targets(manifest: Manifest, *outputs: Sequence[Channel]) -> Manifest:
    """The manifest with an output for each group of targets."""
    tensor = manifest.outputs[0].tensor
    ports = tuple(Port(tuple(group), None, "session", tensor) for group in outputs)
    tolerance = (1.0,) * sum(map(len, outputs))
    return dataclasses.replace(manifest, outputs=ports, golden_tolerance=tolerance, detection=None)


def with_channels(manifest: Manifest, *names: str) -> Manifest:
    port = dataclasses.replace(manifest.inputs[0], channels=tuple(map(channel, names)))
    return dataclasses.replace(manifest, inputs=(port,), detection=None)


def outputs(values: ArrayLike, rows: Sequence[int] | None = None) -> Outputs:
    array = np.array(values, np.float64)
    return Outputs(np.arange(len(array)) if rows is None else np.array(rows), array)


def difference(a: Manifest, b: Manifest, of_a: Outputs, of_b: Outputs) -> Difference:
    return compare_outputs(a, b, (of_a, of_b), TIMES[:100])


# How far two outputs are apart


@pytest.fixture
def plain(tiny: Artifact) -> Manifest:
    """Two targets, u and v, in units that need no normalising."""
    return with_targets(tiny.manifest, [channel("u"), channel("v")])


def test_figures_by_hand(plain: Manifest) -> None:
    of_b = outputs([[3, 1], [-3, -1], [3, -1], [-3, 1]])  # rms: sqrt(5)
    of_a = outputs([[3, 1], [-3, -1], [3, 1], [-4, 1]])
    found = difference(plain, plain, of_a, of_b)
    assert found.rows == 4
    assert found.targets == ("u", "v")
    assert found.relative_error == pytest.approx((2 + 1) / 8 / np.sqrt(5))
    assert found.max_error == pytest.approx(2 / np.sqrt(5))
    assert found.worst_target == "v"
    assert found.worst_error == pytest.approx(2 / 4 / np.sqrt(5))
    assert dataclasses.astuple(found.largest) == (2, 1e9 + 120, "v", 1, -1)
    expected = [np.corrcoef(of_a.values[:, k], of_b.values[:, k])[0, 1] for k in (0, 1)]
    assert found.correlation == pytest.approx(min(expected))


def test_units_and_offsets_change_nothing(plain: Manifest) -> None:
    rng = np.random.default_rng(0)
    y_b = rng.normal(size=(50, 2))
    y_a = y_b + rng.normal(0, 0.1, (50, 2))
    mean, std = np.array([1000.0, -5.0]), np.array([50.0, 0.01])
    physical = with_targets(plain, [channel("u", 1000, 50), channel("v", -5, 0.01)])
    expected = difference(plain, plain, outputs(y_a), outputs(y_b))
    found = difference(physical, physical, outputs(y_a * std + mean), outputs(y_b * std + mean))
    for name in ("relative_error", "max_error", "worst_error", "correlation"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))
    assert found.worst_target == expected.worst_target
    assert found.largest.row == expected.largest.row


def test_b_is_the_measure(plain: Manifest) -> None:
    of_a, of_b = outputs([[1, 1], [-1, -1]]), outputs([[2, 2], [-2, -2]])
    assert difference(plain, plain, of_a, of_b).relative_error == pytest.approx(1 / 2)
    assert difference(plain, plain, of_b, of_a).relative_error == pytest.approx(1)


def test_scaling_is_that_of_b(plain: Manifest) -> None:
    scaled = with_targets(plain, [channel("u", std=4), channel("v", std=4)])
    of_a, of_b = outputs([[9, 8], [0, 0]]), outputs([[8, 8], [0, 0]])
    found = difference(plain, scaled, of_a, of_b)
    assert found.max_error == pytest.approx(1 / 4 / np.sqrt(2))
    assert (found.largest.a, found.largest.b) == (9, 8)  # in physical units


def test_only_rows_with_both_outputs_count(plain: Manifest) -> None:
    of_a = outputs([[9, 9], [1, 1], [2, 3]], rows=[1, 5, 9])
    of_b = outputs([[7, 7], [1, 1], [2, 2], [8, 8]], rows=[2, 5, 9, 12])
    found = difference(plain, plain, of_a, of_b)
    assert found.rows == 2
    assert (found.largest.row, found.largest.target) == (9, "v")
    assert (found.largest.timestamp, found.largest.a) == (1e9 + 540, 3)


def test_no_row_with_both_outputs(plain: Manifest) -> None:
    for rows in ([1, 3], []):
        of_a = Outputs(np.array(rows, np.int64), np.ones((len(rows), 2)))
        with pytest.raises(ConfigurationError, match=r"no reading in common .* in 100 readings"):
            difference(plain, plain, of_a, outputs([[1, 1]], rows=[2]))


def test_rows_are_counted_as_the_file_does(plain: Manifest) -> None:
    pair = (outputs([[1, 1], [2, 2]]), outputs([[1, 1], [2, 3]]))
    found = compare_outputs(plain, plain, pair, np.array([50.0, 60.0]), first_row=750)
    assert (found.largest.row, found.largest.timestamp) == (751, 60)


def test_targets_are_aligned_by_name(plain: Manifest) -> None:
    other = with_targets(plain, [channel("w")], [channel("v"), channel("u")])
    of_a = outputs([[1, 10], [2, 20]])
    of_b = outputs([[99, 10, 1], [99, 20, 2]])
    found = difference(plain, other, of_a, of_b)
    assert found.targets == ("v", "u")
    assert (found.relative_error, found.max_error) == (0, 0)
    assert difference(other, plain, of_b, of_a).targets == ("u", "v")


def test_the_worst_of_several_outputs_counts(plain: Manifest) -> None:
    ports = with_targets(plain, [channel("u")], [channel("v"), channel("w")])
    of_b = outputs([[0.1, 10, 10], [-0.1, -10, -10]])
    of_a = outputs([[0.15, 11, 10], [-0.1, -10, -10]])
    found = difference(ports, ports, of_a, of_b)
    assert found.relative_error == pytest.approx(0.05 / 0.1 / 2)
    assert found.worst_target == "u"
    # In one output, the small target would hide behind the large ones.
    together = with_targets(plain, [channel("u"), channel("v"), channel("w")])
    assert difference(together, together, of_a, of_b).worst_target == "v"


def test_equal_outputs(plain: Manifest) -> None:
    same = outputs([[1, -1], [2, 3], [0, 0]])
    found = difference(plain, plain, same, same)
    assert (found.relative_error, found.max_error, found.worst_error) == (0, 0, 0)
    assert found.correlation == pytest.approx(1)


def test_constant_and_silent_outputs(plain: Manifest) -> None:
    found = difference(plain, plain, outputs([[1, 1], [1, 2]]), outputs([[0, 0], [0, 0]]))
    assert found.correlation is None
    assert found.max_error == 2  # standard deviations: there is no output to measure it by


# What can be compared


def test_the_same_artifact_is_comparable(tiny: Artifact) -> None:
    assert check_comparable(tiny.manifest, tiny.manifest) == []


def test_channels_in_another_order_are_comparable(tiny: Artifact) -> None:
    a, b = with_channels(tiny.manifest, "x", "y"), with_channels(tiny.manifest, "y", "x")
    assert check_comparable(a, b) == []


def test_other_channels_are_refused(tiny: Artifact) -> None:
    a, b = with_channels(tiny.manifest, "x", "y"), with_channels(tiny.manifest, "x", "z")
    with pytest.raises(ConfigurationError, match="only a takes y; only b takes z"):
        check_comparable(a, b)
    with pytest.raises(ConfigurationError, match=r"\(only b takes w, z\)"):
        check_comparable(with_channels(a, "x"), with_channels(a, "w", "x", "z"))


def test_no_target_in_common_is_refused(plain: Manifest) -> None:
    other = with_targets(plain, [channel(f"t{i}") for i in range(6)])
    with pytest.raises(ConfigurationError, match=r"a gives u, v, but b gives t0, .* and 2 more"):
        check_comparable(plain, other)


def test_targets_of_one_alone_are_named(plain: Manifest) -> None:
    other = with_targets(plain, [channel("v"), channel("w")])
    assert check_comparable(plain, other) == [
        "Only a gives u; this is not compared.",
        "Only b gives w; this is not compared.",
    ]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"detection": None, "task": "none", "horizon": 0},
            "a's outputs are 1 step ahead, b's are no forecast",
        ),
        ({"horizon": 3}, "a's outputs are 1 step ahead, b's are 3 steps ahead"),
        ({"sample_period": 5.0}, "a was made for a reading every 60 s, b for one every 5 s"),
        (
            {"mode": "window", "window": 8, "hop": 3},
            "a step of b is that of one that runs the model, which is one in 3",
        ),
    ],
)
def test_what_a_reader_must_know(tiny: Artifact, changes: dict[str, Any], note: str) -> None:
    (found,) = check_comparable(tiny.manifest, dataclasses.replace(tiny.manifest, **changes))
    assert note in found


def test_nearly_the_same_period_is_no_matter(tiny: Artifact) -> None:
    other = dataclasses.replace(tiny.manifest, sample_period=62.0)
    assert check_comparable(tiny.manifest, other) == []


# Scores


def test_score_change() -> None:
    a, b = np.array([np.nan, 2, 4, np.nan]), np.array([np.nan, 1, 5, 100])
    assert score_change(a, b) == pytest.approx(1 / 3)
    assert score_change(b, b) == 0
    assert score_change(a, np.full(4, np.nan)) is None
    assert score_change(a, np.zeros(4)) is None


# Speed


class Machine:
    """A clock, and models whose steps take a known time on it."""

    def __init__(self) -> None:
        self.now = 0
        self.log: list[str] = []
        self.readings: dict[str, list[float]] = {}

    def clock(self) -> int:
        return self.now

    def model(self, name: str, durations: Iterator[int], hop: int = 1) -> Any:
        def step(x: Readings) -> Readings | None:
            self.log.append(name)
            self.readings.setdefault(name, []).append(float(x[0]))
            if len(self.readings[name]) % hop:
                self.now += 1
                return None
            self.now += next(durations)
            return x

        return step


def forever(*durations: int) -> Iterator[int]:
    while True:
        yield from durations


READINGS = np.arange(7.0)[:, None]


def test_blocks_take_turns_until_all_steps_are_done() -> None:
    machine = Machine()
    sides = [
        (machine.model("a", forever(3000)), READINGS),
        (machine.model("b", forever(5000)), READINGS),
    ]
    a, b = time_in_turns(sides, steps=2000, clock=machine.clock)
    assert a == Speed(2000, 3.0, 3.0)
    assert b == Speed(2000, 5.0, 5.0)
    blocks = "".join(machine.log).replace("a" * 100, "A").replace("b" * 100, "B")
    assert blocks == "AB" * 22
    assert machine.readings["a"][:9] == [0, 1, 2, 3, 4, 5, 6, 0, 1]


def test_median_and_p90_leave_the_warm_up_out() -> None:
    machine = Machine()

    def durations() -> Iterator[int]:
        yield from [10**9] * 200
        yield from forever(*[1000] * 5, *[2000] * 10, *[9000] * 4, 50_000)

    (speed,) = time_in_turns(
        [(machine.model("a", durations()), READINGS)], steps=2000, clock=machine.clock
    )
    assert (speed.median_us, speed.p90_us) == (2.0, 9.0)


def test_steps_that_do_not_run_the_model_are_not_timed() -> None:
    machine = Machine()
    (speed,) = time_in_turns(
        [(machine.model("a", forever(4000), hop=3), READINGS)], steps=150, clock=machine.clock
    )
    assert speed == Speed(200, 4.0, 4.0)  # whole blocks
    assert len(machine.log) == 3 * 400


def test_timing_reports_its_progress() -> None:
    machine, seen = Machine(), []
    time_in_turns(
        [(machine.model("a", forever(1)), READINGS)],
        steps=300,
        clock=machine.clock,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 5) for i in range(5)]


# The command, on real artifacts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sines: Readings) -> Path:
    """The working folder, with the readings `sines` in `pump.csv`, one a minute."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{1e9 + 60 * i},{u!r},{v!r}\n" for i, (u, v) in enumerate(sines.tolist()))
    Path("pump.csv").write_text("time,flow,level\n" + rows)
    return tmp_path


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def figures(*arguments: str | Path) -> dict[str, Any]:
    result = invoke(*arguments, "--data", "pump.csv", "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refusal(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def data(name: str) -> Path:
    return DATA / f"{name}.tflite"


def run(path: Path, readings: Readings) -> Outputs:
    session = Session(Artifact.read(path))
    given = [(i, y) for i, x in enumerate(readings) if (y := session.step(x)) is not None]
    return outputs([y for _, y in given], rows=[i for i, _ in given])


@pytest.mark.usefixtures("folder")
def test_figures_are_those_of_the_sessions(
    tiny: Artifact, tiny_float32: Artifact, sines: Readings
) -> None:
    found = figures(data("tiny"), data("tiny_float32"))
    expected = compare_outputs(
        tiny.manifest,
        tiny_float32.manifest,
        (run(data("tiny"), sines), run(data("tiny_float32"), sines)),
        TIMES,
    )
    assert found["difference"] == json.loads(json.dumps(dataclasses.asdict(expected)))
    assert 0.001 < expected.relative_error < 0.1
    assert expected.correlation is not None
    assert expected.correlation > 0.99
    assert (found["recording"], found["readings"], found["notes"]) == ("pump.csv", 500, [])


@pytest.mark.usefixtures("folder")
def test_sides_say_what_the_manifests_say(tiny: Artifact) -> None:
    found = figures(data("tiny"), data("tiny_float32"), "--backend", "litert")
    a, manifest = found["a"], tiny.manifest
    assert a["bytes"] == data("tiny").stat().st_size
    assert a["model_bytes"] == manifest.flatbuffer_bytes
    assert a["operations"] == sum(op.count for op in manifest.operations)
    assert a["fidelity"] == dataclasses.asdict(manifest.fidelity)
    assert a["runtimes"] == manifest.runtimes
    assert [a["recipe"], found["b"]["recipe"]] == ["int8", "float32"]
    assert (set(a["inputs"].values()), set(found["b"]["outputs"].values())) == (
        {"int8"},
        {"float32"},
    )
    for side in (a, found["b"]):
        assert side["backend"] == "litert"
        assert side["speed"]["steps"] >= 2000
        assert 0 < side["speed"]["median_us"] <= side["speed"]["p90_us"]
    ratio = a["speed"]["median_us"] / found["b"]["speed"]["median_us"]
    assert found["speed_ratio"] == pytest.approx(ratio)


@pytest.mark.usefixtures("folder")
def test_scores_and_alerts_are_those_of_the_pipeline(sines: Readings) -> None:
    disturbed = sines.copy()
    disturbed[300:330, 0] += 15
    rows = "".join(f"{60 * i},{u!r},{v!r}\n" for i, (u, v) in enumerate(disturbed.tolist()))
    Path("pump.csv").write_text("time,flow,level\n" + rows)
    found = figures(data("tiny"), data("tiny_float32"))
    scores, alerts = [], []
    for name in ("tiny", "tiny_float32"):
        pipeline = Pipeline(Session(Artifact.read(data(name))))
        verdicts = [
            pipeline.update(Reading(60.0 * i, tuple(x))) for i, x in enumerate(disturbed.tolist())
        ]
        scores.append(np.array([v.score for v in verdicts[20:]], np.float64))
        alerts.append(pipeline.alerts)
    assert [found["a"]["alerts"], found["b"]["alerts"]] == alerts
    assert alerts[0] > 0
    expected = np.abs(scores[0] - scores[1]).mean() / scores[1].mean()
    assert found["score_change"] == pytest.approx(expected)


@pytest.mark.usefixtures("folder")
def test_scores_need_a_detection_of_both(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, detection=None)
    dataclasses.replace(tiny, manifest=manifest).write("blind.tflite")
    for files in ((data("tiny"), "blind.tflite"), ("blind.tflite", data("tiny"))):
        found = figures(*files)
        assert found["score_change"] is None
        assert found["a"]["alerts"] is found["b"]["alerts"] is None


@pytest.mark.usefixtures("folder")
def test_a_gap_in_the_recording_resets_nothing(sines: Readings) -> None:
    whole = figures(data("tiny"), data("tiny_float32"))
    lines = Path("pump.csv").read_text().splitlines()
    later = [f"{float(line.split(',')[0]) + 1e6},{line.split(',', 1)[1]}" for line in lines[251:]]
    Path("pump.csv").write_text("\n".join([*lines[:251], *later]) + "\n")
    found = figures(data("tiny"), data("tiny_float32"))
    assert found["score_change"] == whole["score_change"]
    assert found["difference"]["max_error"] == whole["difference"]["max_error"]


@pytest.mark.usefixtures("folder")
def test_an_artifact_against_itself() -> None:
    found = figures(data("tiny"), data("tiny"))
    assert found["difference"]["max_error"] == found["score_change"] == 0
    assert found["difference"]["correlation"] == pytest.approx(1)


@pytest.mark.usefixtures("folder")
def test_rows_are_chosen_and_named_as_in_the_file(sines: Readings) -> None:
    for rows, start in (("400:", 400), ("-100:", 400), (":100", 0)):
        found = figures(data("tiny"), data("tiny_float32"), f"--rows={rows}")
        largest = found["difference"]["largest"]
        expected = run(data("tiny"), sines[start : start + 100]).values
        assert found["difference"]["rows"] == 100
        assert start <= largest["row"] < start + 100
        assert largest["timestamp"] == 1e9 + 60 * largest["row"]
        target = ["flow", "level"].index(largest["target"])
        assert largest["a"] == expected[largest["row"] - start, target]


@pytest.mark.usefixtures("folder")
def test_a_window_against_a_stream() -> None:
    found = figures(data("tiny_window"), data("tiny"))
    window = Artifact.read(data("tiny_window")).manifest
    assert window.window is not None
    assert window.hop > 1
    given = range(window.window - 1, 500, window.hop)
    assert found["difference"]["rows"] == len(given)
    assert found["difference"]["largest"]["row"] in given
    assert found["a"]["mode"] == "window"
    assert found["a"]["speed"]["steps"] >= 2000
    assert any(f"one in {window.hop}" in note for note in found["notes"])
    # Both forecast the same sines.
    assert found["difference"]["correlation"] > 0.8


@pytest.mark.usefixtures("folder")
def test_a_recording_shorter_than_the_window() -> None:
    message = refusal(data("tiny_window"), data("tiny"), "--data", "pump.csv", "--rows", ":3")
    assert "no reading in common after which both give an output, in 3 readings" in message


def swap(port: Port) -> Port:
    """The port with the names of its two channels exchanged."""
    first, second = port.channels
    names = (second.name, first.name)
    channels = zip(port.channels, names, strict=True)
    return dataclasses.replace(
        port, channels=tuple(dataclasses.replace(c, name=name) for c, name in channels)
    )


def swapped(artifact: Artifact) -> Artifact:
    manifest = artifact.manifest
    manifest = dataclasses.replace(
        manifest, inputs=(swap(manifest.inputs[0]),), outputs=(swap(manifest.outputs[0]),)
    )
    return dataclasses.replace(artifact, manifest=manifest)


@pytest.mark.usefixtures("folder")
def test_channels_are_aligned_by_name(tiny: Artifact, sines: Readings) -> None:
    swapped(tiny).write("swapped.tflite")
    found = figures("swapped.tflite", data("tiny"))
    of_a = run(Path("swapped.tflite"), sines[:, ::-1])
    of_b = run(data("tiny"), sines)
    largest = found["difference"]["largest"]
    target = ["flow", "level"].index(largest["target"])
    assert largest["a"] == of_a.values[largest["row"], 1 - target]
    assert largest["b"] == of_b.values[largest["row"], target]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["tiny_ports", "tiny_tokens"])
def test_other_kinds_of_models(name: str) -> None:
    manifest = Artifact.read(data(name)).manifest
    names = [c.name for c in manifest.channels]
    rows = "".join(",".join([str(i % 5)] * len(names)) + "\n" for i in range(50))
    Path("pump.csv").write_text(",".join(names) + "\n" + rows)
    found = figures(data(name), data(name))
    assert found["difference"]["rows"] == 50
    assert found["difference"]["targets"] == [t.name for t in manifest.targets]
    assert found["difference"]["max_error"] == 0
    assert found["score_change"] is None
    assert found["a"]["alerts"] is None
    assert len(found["a"]["outputs"]) == len(manifest.outputs)
    page = invoke(data(name), data(name), "--data", "pump.csv")
    assert page.exit_code == 0
    assert "Scores" not in page.stdout


@pytest.mark.usefixtures("folder")
def test_page(tiny: Artifact, tiny_float32: Artifact) -> None:
    result = invoke(data("tiny"), data("tiny_float32"), "--data", "pump.csv")
    assert result.exit_code == 0, result.output
    head, *rows = (line for line in result.stdout.split("\n\n")[0].splitlines())
    at = [head.index("a "), head.index("b "), head.index("a / b")]
    cells = {
        row[: at[0]].strip(): [row[x:y].strip() for x, y in zip(at, [*at[1:], None], strict=True)]
        for row in rows
    }
    a, b = tiny.manifest, tiny_float32.manifest
    assert cells["file"] == ["tiny.tflite", "tiny_float32.tflite", ""]
    assert cells["recipe"] == ["int8", "float32", ""]
    assert cells["mode"] == ["stream", "stream", ""]
    sizes = [f"{m.flatbuffer_bytes:,} bytes" for m in (a, b)]
    assert cells["model size"] == [*sizes, f"{a.flatbuffer_bytes / b.flatbuffer_bytes:.2f}"]
    assert cells["off Keras by"][0] == f"{a.fidelity.relative_error:.2%}"
    for name, release in a.runtimes.items():
        assert cells[name][0] == f"{release} or later"
    assert cells["step, median"][0].endswith(" us")
    assert float(cells["step, p90"][2]) > 0
    below = result.stdout.split("\n\n")[1]
    assert "Recording pump.csv: 500 readings, 500 with an output of both\n" in below
    assert "Outputs   a differs from b by " in below
    assert "Largest   row " in below
    assert "(2001-09-09 " in below
    assert "Scores    a's differ from b's by " in below


@pytest.mark.usefixtures("folder")
def test_page_of_a_recording_without_dates(sines: Readings) -> None:
    rows = "".join(f"{u!r},{v!r}\n" for u, v in sines[:50].tolist())
    Path("pump.csv").write_text("flow,level\n" + rows)
    page = invoke(data("tiny_window"), data("tiny"), "--data", "pump.csv", "--sample-period", "60")
    (largest,) = [line for line in page.stdout.splitlines() if line.startswith("Largest")]
    row = int(largest.split()[2])
    assert f"row {row} ({60 * row} s), " in largest
    (note,) = [line for line in page.stdout.splitlines() if line.startswith("Note")]
    assert note.endswith("which is one in 3.")


@pytest.mark.usefixtures("folder")
def test_files_of_one_name_are_told_apart(tiny: Artifact) -> None:
    Path("old").mkdir()
    tiny.write("old/tiny.tflite")
    tiny.write("tiny.tflite")
    page = invoke("old/tiny.tflite", "tiny.tflite", "--data", "pump.csv").stdout
    assert "\nfile " in page
    assert " old/tiny.tflite  tiny.tflite\n" in page


@pytest.mark.usefixtures("folder")
def test_a_runtime_that_computes_one_of_them_wrongly_is_shown(tiny: Artifact) -> None:
    known = {"ai-edge-litert": "1.0.0"}
    manifest = dataclasses.replace(tiny.manifest, runtimes=known | {"tflite-runtime": "2.14.0"})
    dataclasses.replace(tiny, manifest=manifest).write("a.tflite")
    manifest = dataclasses.replace(tiny.manifest, runtimes=known)
    dataclasses.replace(tiny, manifest=manifest).write("b.tflite")
    page = invoke("a.tflite", "b.tflite", "--data", "pump.csv").stdout.splitlines()
    (line,) = [line.split() for line in page if line.startswith("tflite-runtime")]
    assert line == ["tflite-runtime", "2.14.0", "or", "later", "no"]


@pytest.mark.usefixtures("folder")
def test_progress_is_on_standard_error() -> None:
    result = invoke(data("tiny"), data("tiny_window"), "--data", "pump.csv", "--json")
    json.loads(result.stdout)
    stages = [line.strip() for line in result.stderr.splitlines()]
    assert stages[:2] == ["running a ...", "running b ..."]
    assert stages[-1] == "timing both in turns ..."


# Refusals


@pytest.mark.usefixtures("folder")
def test_artifact_of_other_channels() -> None:
    message = refusal(data("tiny"), data("tiny_tokens"), "--data", "pump.csv")
    assert "only a takes flow, level; only b takes" in message


@pytest.mark.usefixtures("folder")
def test_missing_files() -> None:
    assert refusal("gone.tflite", data("tiny"), "--data", "pump.csv").startswith("gone.tflite")
    assert refusal(data("tiny"), "gone.tflite", "--data", "pump.csv").startswith("gone.tflite")
    assert refusal(data("tiny"), data("tiny"), "--data", "gone.csv").startswith("gone.csv cannot")


@pytest.mark.usefixtures("folder")
def test_recording_that_lacks_a_channel() -> None:
    message = refusal(data("tiny"), data("tiny"), "--data", "pump.csv", "--columns", "flow")
    assert message == "pump.csv has no channel 'level'; it has flow."


@pytest.mark.usefixtures("folder")
def test_rows_beyond_the_recording() -> None:
    message = refusal(data("tiny"), data("tiny"), "--data", "pump.csv", "--rows", "500:")
    assert message == "pump.csv has 500 rows; the rows 500: are none of them."


@pytest.mark.usefixtures("folder")
def test_artifact_that_computes_something_else_here(tiny: Artifact) -> None:
    golden = dataclasses.replace(tiny.golden, y=-tiny.golden.y)
    dataclasses.replace(tiny, golden=golden).write("other.tflite")
    message = refusal(data("tiny"), "other.tflite", "--data", "pump.csv")
    assert message.startswith("other.tflite does not give its golden vectors on this machine")


@pytest.mark.usefixtures("folder")
def test_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    options = ("--data", "pump.csv", "--backend", "tflite-runtime")
    assert "tflite-runtime is not installed" in refusal(data("tiny"), data("tiny"), *options)


@pytest.mark.usefixtures("folder")
def test_both_run_with_the_backend_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(flatbuffer: bytes, wiring: Wiring, backend: str, threads: int) -> Graph:
        asked.append(backend)
        return open_graph(flatbuffer, wiring, backend, threads)

    monkeypatch.setattr("edgelstm.session.open_graph", note)
    figures(data("tiny"), data("tiny"), "--backend", "litert")
    figures(data("tiny"), data("tiny"))
    assert asked == ["litert", "litert", "auto", "auto"]


@pytest.mark.usefixtures("folder")
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_output_that_is_not_finite(tiny_float32: Artifact) -> None:
    (port,) = tiny_float32.manifest.outputs
    huge = tuple(dataclasses.replace(c, std=1.7e308) for c in port.channels)
    ports = (dataclasses.replace(port, channels=huge, scaling="session"),)
    manifest = dataclasses.replace(tiny_float32.manifest, outputs=ports)
    dataclasses.replace(tiny_float32, manifest=manifest).write("huge.tflite")
    message = refusal(data("tiny"), "huge.tflite", "--data", "pump.csv")
    assert message.startswith("b gives a value that is not finite at reading ")
