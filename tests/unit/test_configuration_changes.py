from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from edgelstm.configuration import (
    Changes,
    DashboardSettings,
    DetectionSettings,
    MetricsSettings,
    OutboxSettings,
    RunSettings,
    SensorSettings,
    SinkSettings,
    SourceSettings,
    changed,
)
from edgelstm.configuration.changes import Names
from edgelstm.secret import Secret
from edgelstm.sinks import SinkOptions

BOARD = SourceSettings("/dev/ttyACM0")
PUMP = SensorSettings(Path("pump.tflite"), "board")
LOG = SinkSettings("log", SinkOptions("log"), None)
OLD = RunSettings("pi", {"board": BOARD}, {"pump": PUMP}, {"log": LOG})


def test_equal_configurations_change_nothing() -> None:
    new = RunSettings("pi", {"board": BOARD}, {"pump": replace(PUMP)}, {"log": LOG})
    assert changed(OLD, new) == Changes()
    assert not changed(OLD, new)
    assert not changed(OLD, replace(OLD, path=Path("elsewhere.toml")))


def test_tables_are_added_removed_and_changed() -> None:
    new = replace(
        OLD,
        sources={"board": replace(BOARD, timeout=5.0), "plant": SourceSettings("x")},
        sensors={"fan": PUMP},
        sinks={"log": replace(LOG, options=SinkOptions("log", sensors=("fan",)))},
    )
    found = changed(OLD, new)
    assert found.sources == Names(frozenset({"plant"}), frozenset(), frozenset({"board"}))
    assert found.sensors == Names(frozenset({"fan"}), frozenset({"pump"}), frozenset())
    assert found.sinks == Names(frozenset(), frozenset(), frozenset({"log"}))
    assert found.sources.all == {"plant", "board"}
    assert found.sensors.all == {"fan", "pump"}
    assert found.rest == ()
    assert found


@pytest.mark.parametrize(
    "sensor",
    [
        replace(PUMP, source="plant"),
        replace(PUMP, channels={"flow": "f"}),
        replace(PUMP, detection=DetectionSettings(critical=3.0)),
    ],
)
def test_a_sensor_that_is_told_anything_else_is_changed(sensor: SensorSettings) -> None:
    assert changed(OLD, replace(OLD, sensors={"pump": sensor})).sensors.changed == {"pump"}


def test_another_secret_is_a_change() -> None:
    old, new = (replace(BOARD, port="mqtt://u@h/t", password=Secret(p)) for p in "ab")
    found = changed(replace(OLD, sources={"b": old}), replace(OLD, sources={"b": new}))
    assert found.sources.changed == {"b"}


def test_everything_else_is_named() -> None:
    others = {
        "name": "attic",
        "state_directory": Path("state"),
        "save_every": 5.0,
        "outbox": OutboxSettings(max_days=1.0),
        "dashboard": DashboardSettings(),
        "metrics": MetricsSettings(),
        "public_keys": (Path("key.pem"),),
    }
    tables = {"sources", "sensors", "sinks", "path"}
    assert others.keys() | tables == {each.name for each in fields(RunSettings)}
    for name, value in others.items():
        assert changed(OLD, replace(OLD, **{name: value})) == Changes(rest=(name,))  # type: ignore[arg-type]
    order = [each.name for each in fields(RunSettings) if each.name in others]
    assert list(changed(OLD, replace(OLD, **others)).rest) == order  # type: ignore[arg-type]
