"""A runtime of the real wheels, as a device without internet gets it, and releases proved in it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from agent_child import a_layout
from agent_rig import a_release, put

from edgelstm.artifact import Artifact
from edgelstm_devices.agent.context import Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.proving import prove
from edgelstm_devices.agent.releases import stage
from edgelstm_devices.agent.runtimes import damaged_file, install_runtime
from edgelstm_devices.runtime_bundle import make_runtime
from edgelstm_devices.runtimes import load_runtimes
from edgelstm_devices.wheel_names import Target

TINY = Path(__file__).parents[1] / "data/tiny.tflite"
CONFIGURATION = b"""
[sources.board]
port = "/dev/ttyACM-not-plugged-in"
[sensors.pump]
artifact = "pump.tflite"
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("device")
    runtime = next(one for one in load_runtimes().values() if one.package == "ai-edge-litert")
    python = "{}.{}".format(*sys.version_info)
    target = Target(python, platform.machine(), platform.libc_ver()[1])
    bundle = make_runtime(runtime, target, folder / "cache", offline=True)
    layout = a_layout(folder)
    for path in bundle.sources.values():
        put(layout, path.read_bytes())
    spec = json.loads(json.dumps(asdict(bundle.spec)))
    assert install_runtime(Context(), layout=layout, runtime=spec)["made"]
    return layout, spec


def proved(
    device: tuple[Layout, dict[str, Any]], model: bytes, configuration: bytes = CONFIGURATION
) -> list[dict[str, Any]]:
    layout, runtime = device
    files = {"pump.toml": configuration, "pump.tflite": model}
    number = len(list(layout.store.iterdir()))
    spec = a_release(layout, runtime, files, id=f"20261121-053012-{number}")
    stage(Context(), layout=layout, spec=spec)
    return prove(Context(), layout=layout, spec=spec)


def test_a_good_release_is_proved_without_its_port(device: tuple[Layout, dict[str, Any]]) -> None:
    layout, runtime = device
    program = layout.runtimes / runtime["id"] / "bin/edgelstm"
    assert "version" in subprocess.check_output([program, "--version"], text=True)
    answers = proved(device, TINY.read_bytes())
    assert [(one["what"], one["ok"]) for one in answers] == [
        ("doctor", True),
        ("verify pump.tflite", True),
        ("configuration", True),
    ], answers
    assert "golden runs hold" in answers[1]["text"]
    assert damaged_file(layout, runtime["id"]) == ""
    assert answers[2]["text"] == "pump.toml will do: 1 sensor, 0 sinks."


def test_a_model_that_computes_something_else_is_refused(
    device: tuple[Layout, dict[str, Any]], tmp_path: Path
) -> None:
    artifact = Artifact.read(TINY)
    broken = replace(artifact, golden=replace(artifact.golden, y=-artifact.golden.y))
    broken.write(tmp_path / "pump.tflite")
    answers = proved(device, (tmp_path / "pump.tflite").read_bytes())
    assert [one["ok"] for one in answers] == [False, False, False]
    assert "the golden runs do not hold, first in run " in answers[1]["text"]


def test_a_model_of_another_tool_has_nothing_to_replay(
    device: tuple[Layout, dict[str, Any]],
) -> None:
    model = Artifact.read(TINY).flatbuffer
    answers = proved(device, model.replace(b"edgelstm step graph", b"someone's own graph"))
    assert [one["ok"] for one in answers] == [True, True, False]
    assert "carries no golden vectors" in answers[1]["text"]
    assert "neither forecasts nor reconstructs" in answers[2]["text"]


def test_a_bad_configuration_is_refused(device: tuple[Layout, dict[str, Any]]) -> None:
    answers = proved(device, TINY.read_bytes(), CONFIGURATION + b"wrong = 1\n")
    assert [one["ok"] for one in answers] == [True, True, False]
    assert "wrong" in answers[2]["text"]
