from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from edgelstm.configuration import (
    DashboardSettings,
    DetectionSettings,
    MetricsSettings,
    OutboxSettings,
    SensorSettings,
    SourceSettings,
    read_settings,
)
from edgelstm.configuration.fields import Field, fields_of
from edgelstm.configuration.reading import top_fields
from edgelstm.sinks import SinkOptions

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text()

TABLES = {
    "At the top": top_fields(),
    "`[sources.NAME]`": fields_of(SourceSettings),
    "`[sensors.NAME]`": [field for field in fields_of(SensorSettings) if field.table is None],
    "`[sensors.NAME.detection]`": fields_of(DetectionSettings),
    "`[sinks.NAME]`": fields_of(SinkOptions),
    "`[outbox]`": fields_of(OutboxSettings),
    "`[dashboard]`": fields_of(DashboardSettings),
    "`[metrics]`": fields_of(MetricsSettings),
}


def as_table(fields: Iterable[Field]) -> str:
    """What the page should say of some keys: to be put there when a test fails."""
    rows = ["| key | default | |", "|---|---|---|"]
    for field in fields:
        key = f"**`{field.name}`**" if field.required else f"`{field.name}`"
        default, such = (f"`{field.example}`", "") if field.has_default else ("", _such(field))
        rows.append(f"| {key} | {default} | {field.help}{such} |")
    return "\n".join(rows)


def _such(field: Field) -> str:
    return f" Such as `{field.example}`."


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_each_key_of_each_table_and_no_other(heading: str) -> None:
    sections = dict(sections_of(PAGE))
    found = "\n".join(line for line in sections[heading].split("\n") if line.startswith("|"))
    assert found == as_table(TABLES[heading])


def sections_of(page: str) -> Iterator[tuple[str, str]]:
    for section in re.split(r"^###? ", page, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        yield heading, text


def test_the_files_on_the_page_are_right(tmp_path: Path) -> None:
    files = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(files) >= 2
    for artifact in ("pump.tflite", "fan.tflite"):
        (tmp_path / artifact).touch()
    (tmp_path / "broker.txt").write_text("secret")
    path = tmp_path / "pump.toml"
    for text in files:
        path.write_text(text)
        settings = read_settings(
            path, environ={"DASHBOARD_TOKEN": "x", "CREDENTIALS_DIRECTORY": str(tmp_path)}
        )
        assert settings.sensors.keys() == tomllib.loads(text)["sensors"].keys()


def test_the_mistakes_on_the_page_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = re.search(r"```\n(pump\.toml, line .*?)```", PAGE, re.DOTALL)
    assert shown
    monkeypatch.chdir(tmp_path)
    Path("pump.tflite").touch()
    Path("pump.toml").write_text(
        '[sources.board]\nport = "/dev/ttyACM0"\nbaudrate = 9600\n'
        '[sensors.pump]\nartifact = "pump.tflite"\nevidence = "120"\n'
        "k = 3\n"
        '[sinks.hook]\ntype = "webhok"\n'
    )
    with pytest.raises(Exception, match="baudrate") as error:
        read_settings(Path("pump.toml"))
    assert str(error.value) == shown[1].rstrip()
