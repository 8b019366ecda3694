"""`edgelstm score` beside `edgelstm run`: the same file, once read and once over a port."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_run import EDGELSTM, TINY, device, run

import edgelstm
from edgelstm.commands.scoring import read_for_model, score_recording
from edgelstm.pipeline import Pipeline
from edgelstm_bridge.sources import open_source

WINDOW = TINY.with_name("tiny_window.tflite")
BUDGET = ("--false-alarms-per-day", "0.5")


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    """Sines with a fault; the values are as exact in float32, which a port carries, as here."""
    t = np.arange(1500)
    rng = np.random.default_rng(5)
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + rng.normal(0, 0.1, (1500, 2))
    values = waves * [3, 1] + [20, -5]
    values[900:960, 0] += 4 * (-1.0) ** t[:60]
    values = np.round(values * 1024) / 1024
    assert (values.astype(np.float32) == values).all()
    path = tmp_path / "pump.csv"
    rows = [f"{60 * i},{a!r},{b!r}" for i, (a, b) in enumerate(values.tolist())]
    path.write_text("\n".join(["time,flow,level", *rows]) + "\n")
    return path


def score(artifact: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EDGELSTM, "score", str(artifact), *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def events(path: Path) -> list[dict[str, object]]:
    """What is told, without whose it is: the ids of a service are unique, those of a file not."""
    told = [json.loads(line) for line in path.read_text().splitlines()]
    whose = ("id", "alert_id", "gateway")
    return [{name: notice[name] for name in notice if name not in whose} for notice in told]


@pytest.mark.parametrize("artifact", [TINY, WINDOW], ids=["stream", "window"])
def test_alerts_are_those_of_run_over_a_port(pump: Path, artifact: Path) -> None:
    live, read = pump.with_name("live.jsonl"), pump.with_name("read.jsonl")
    with device(pump) as (port, _):
        result = run(port, *BUDGET, "--alerts", str(live), artifact=artifact)
    assert "1,500 readings, 0 lost, 0 damaged" in result.stdout, result.stderr
    scored = score(artifact, pump, "-o", pump.with_name("s.csv"), *BUDGET, "--alerts", read)
    assert scored.returncode == 0, scored.stderr
    assert events(read) == events(live)
    assert any(event["event"] == "closed" for event in events(read))
    achieved = [line for line in result.stdout.splitlines() if "the budget is" in line]
    assert achieved == [line for line in scored.stdout.splitlines() if "the budget is" in line]


@pytest.mark.parametrize("artifact", [TINY, WINDOW], ids=["stream", "window"])
def test_scores_are_those_of_a_port_bit_for_bit(pump: Path, artifact: Path) -> None:
    with (
        device(pump) as (port, _),
        edgelstm.load(artifact) as session,
        open_source(port, format="frames") as source,
    ):
        pipeline = Pipeline(session, false_alarms_per_day=0.5)
        verdicts = [pipeline.update(reading) for reading in source]
        recording = read_for_model(pump, session.artifact.manifest)
        scored = score_recording(session, recording, false_alarms_per_day=0.5)
    live = np.array([[v.score, v.threshold] for v in verdicts], np.float64)
    assert np.array_equal(live[:, 0], scored.scores, equal_nan=True)
    assert np.array_equal(live[:, 1], scored.thresholds, equal_nan=True)


def test_neither_tensorflow_nor_keras_is_loaded(pump: Path) -> None:
    code = (
        "import sys, click.testing, edgelstm.cli as cli\n"
        "result = click.testing.CliRunner().invoke(cli.main, sys.argv[1:])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    command = [EDGELSTM[0], "-c", code, "score", str(TINY), str(pump), "-o", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = set(result.stdout.split())
    assert "ai_edge_litert" in loaded
    assert not loaded & {"tensorflow", "keras", "matplotlib", "pyarrow"}


def test_a_pipe_that_ends_early_is_no_accident(pump: Path) -> None:
    command = [*EDGELSTM, "score", str(TINY), str(pump), "-o", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"time,score,threshold,alert\n"
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
