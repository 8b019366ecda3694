from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.configuration import (
    DashboardSettings,
    DetectionSettings,
    MetricsSettings,
    OutboxSettings,
    RunSettings,
    SensorSettings,
    SinkSettings,
    SourceSettings,
    changed,
    read_settings,
    write_template,
)
from edgelstm.configuration.reading import sink_fields
from edgelstm.secret import Secret
from edgelstm.sinks import SinkOptions
from edgelstm.sinks.registry import SINKS
from edgelstm.sinks.webhook import WebhookSink

SECRETS = {
    name: f"https://{name}" for name in ("PASSWORD", "TOKEN", "SECRET", "AUTHORIZATION", "URL")
}


def uncommented(text: str) -> str:
    """With every key and table in force: a comment has a space behind its sign."""
    return re.sub(r"^#(?! )", "", text, flags=re.MULTILINE)


def read_back(folder: Path, text: str, environ: Mapping[str, str] = SECRETS) -> RunSettings:
    path = folder / "written.toml"
    path.write_text(text)
    return read_settings(path, environ=environ)


def test_the_example_is_in_force_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "pump.tflite").touch()
    found = read_back(tmp_path, write_template())
    assert found.sources == {"board": SourceSettings("/dev/ttyACM0")}
    assert found.sensors == {"pump": SensorSettings(tmp_path / "pump.tflite", "board")}
    assert (found.sinks, found.dashboard, found.metrics) == ({}, None, None)


def test_every_key_of_every_table_is_in_it_and_can_be_uncommented(tmp_path: Path) -> None:
    (tmp_path / "pump.tflite").touch()
    (tmp_path / "key.pub.pem").touch()
    text = uncommented(write_template())
    data = tomllib.loads(text)
    assert data["sources"]["board"].keys() == names(SourceSettings)
    assert data["sensors"]["pump"].keys() == names(SensorSettings)
    assert data["sensors"]["pump"]["detection"].keys() == names(DetectionSettings)
    assert data["outbox"].keys() == names(OutboxSettings)
    assert data["dashboard"].keys() == names(DashboardSettings)
    assert data["metrics"].keys() == names(MetricsSettings)
    assert data.keys() == names(RunSettings) - {"path"}
    types = {table["type"] for table in data["sinks"].values()}
    assert types == set(SINKS)
    first = next(iter(data["sinks"].values()))
    for table in data["sinks"].values():
        common, own, _ = sink_fields(table["type"])
        assert table.keys() >= {each.name for each in own}
        assert first.keys() >= {each.name for each in common}
    # Only a URL with a user has a password.
    text = text.replace('"/dev/ttyACM0"', '"mqtt://pi@broker/pump"')
    text = text.replace('template = "json"', 'template = "custom"')  # only that has a body
    found = read_back(tmp_path, text)
    assert found.name == "pump-room"
    assert found.sinks.keys() == {*SINKS, "broker"} - {"mqtt"}


def names(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}


def test_what_it_shows_as_defaults_are_defaults(tmp_path: Path) -> None:
    (tmp_path / "pump.tflite").touch()
    plain = read_back(tmp_path, write_template())
    lines = write_template().splitlines()
    tops = [
        line[1:]
        for line, above in zip(lines, ["", *lines], strict=False)
        if re.match(r"#save_every", line) and "(example)" not in line + above
    ]
    assert len(tops) == 1
    assert read_back(tmp_path, "\n".join([*tops, write_template()])) == plain
    for name, kind in (("outbox", OutboxSettings), ("metrics", MetricsSettings)):
        table = uncommented(write_template()).split(f"[{name}]\n")[1].split("\n\n")[0]
        found = read_back(tmp_path, f"{write_template()}\n[{name}]\n{table}")
        assert getattr(found, name) == kind()


def full(folder: Path) -> RunSettings:
    return RunSettings(
        "pi-4",
        {
            "board": SourceSettings("/dev/ttyUSB0", None, 9600, "csv", folder / "x.raw", 5.0),
            "plant": SourceSettings("mqtts://me@h/t?qos=1", Secret("https://PASSWORD")),
        },
        {
            "a": SensorSettings(
                folder / "a.tflite",
                "board",
                {"x y": 'q"'},
                "any",
                False,
                "litert",
                "edgetpu",
                0,
                DetectionSettings(0.5, "spot", 2, 3, 4.0, 5, 6.0, 0.7, 8.0),
            ),
            "b": SensorSettings(folder / "b.tflite", "plant"),
        },
        {
            "hook": SinkSettings(
                "hook",
                SinkOptions("webhook", ("a",), ("opened", "closed"), quiet_hours="22:00-06:00"),
                WebhookSink.Config(
                    url=Secret("https://URL"),
                    headers={"Authorization": Secret("https://AUTHORIZATION"), "X": "y"},
                ),
            ),
            "lines": SinkSettings(
                "lines",
                SinkOptions("jsonl", events=("opened",)),
                sink_fields("jsonl")[2](path=folder / "alerts.jsonl"),
            ),
        },
        folder / "state",
        5.0,
        OutboxSettings(16.0, 3.0),
        DashboardSettings("0.0.0.0", 80, Secret("https://TOKEN")),  # noqa: S104
        MetricsSettings("::1", 0),
        (folder / "one.pem", folder / "keys/two.pem"),
    )


def test_settings_that_are_written_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    for name in ("a.tflite", "b.tflite", "one.pem", "keys/two.pem"):
        (tmp_path / name).touch()
    before = full(tmp_path)
    text = write_template(before, folder=tmp_path)
    assert not changed(before, read_back(tmp_path, text))
    assert str(tmp_path) not in text
    assert not any(secret in text for secret in SECRETS.values())
    again = replace(before, dashboard=DashboardSettings(), metrics=None, outbox=OutboxSettings())
    assert not changed(again, read_back(tmp_path, write_template(again, folder=tmp_path)))


def test_a_password_in_a_url_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "pump.tflite").touch()
    settings = RunSettings(
        "pi",
        {"device": SourceSettings("mqtt://me:hunter%2F2@host:1883/a/b")},
        {"pump": SensorSettings(tmp_path / "pump.tflite")},
    )
    text = write_template(settings)
    assert "hunter" not in text
    found = read_back(tmp_path, text, {"PASSWORD": "hunter/2"})
    assert found.sources["device"].url() == "mqtt://me:hunter%2F2@host:1883/a/b"


def test_paths_are_as_the_folder_of_the_file_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = RunSettings(
        "pi",
        {"board": SourceSettings("x")},
        {"in": SensorSettings(Path("etc/in.tflite")), "out": SensorSettings(Path("out.tflite"))},
    )
    sensors = tomllib.loads(write_template(settings, folder=Path("etc")))["sensors"]
    assert sensors["in"]["artifact"] == "in.tflite"
    assert sensors["out"]["artifact"] == str(tmp_path / "out.tflite")
    sensors = tomllib.loads(write_template(settings))["sensors"]
    assert sensors["out"]["artifact"] == "out.tflite"


def test_no_line_is_longer_than_people_like() -> None:
    lines = write_template().splitlines()
    assert [line for line in lines if len(line) > 100] == []
    assert "" in lines[:6]
