from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.configuration.toml_text import format_key, format_value
from edgelstm_devices.toml_edit import Place, replace_texts

PUMP: Place = ("sensors", "pump", "artifact")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '[sensors.pump]\nartifact = "a/b.tflite" # not "a/b.tflite"\n',
            '[sensors.pump]\nartifact = "n.tflite" # not "a/b.tflite"\n',
        ),
        (
            "# artifact = 'a/b.tflite'\nsensors.pump.artifact='a/b.tflite'",
            "# artifact = 'a/b.tflite'\nsensors.pump.artifact=\"n.tflite\"",
        ),
        (
            '[sensors]\nfan = {artifact = "a/b.tflite"}\npump = {artifact = "a/b.tflite"}\n',
            '[sensors]\nfan = {artifact = "a/b.tflite"}\npump = {artifact = "n.tflite"}\n',
        ),
        (
            'sensors = { fan = { artifact = "a/b.tflite" }, pump = { artifact = "a/b.tflite" } }',
            'sensors = { fan = { artifact = "a/b.tflite" }, pump = { artifact = "n.tflite" } }',
        ),
        (
            '[sensors.pump]\nartifact = """\\\n  a/b\\\n  .tflite"""\nevidence = 1\n',
            '[sensors.pump]\nartifact = "n.tflite"\nevidence = 1\n',
        ),
        (
            '[sensors.pump]\r\nname = "a/b.tflite"\r\nartifact = "a/b.tflite"\r\n',
            '[sensors.pump]\r\nname = "a/b.tflite"\r\nartifact = "n.tflite"\r\n',
        ),
        (
            '[sensors.pump]\n"artifact" = "artifact"\n',
            '[sensors.pump]\n"artifact" = "n.tflite"\n',
        ),
        (
            '[sensors."pump"]\nchannels = { x = "#" }\nartifact = "\\u0061/b.tflite"\n',
            '[sensors."pump"]\nchannels = { x = "#" }\nartifact = "n.tflite"\n',
        ),
    ],
)
def test_one_value_is_replaced_and_nothing_else(before: str, after: str) -> None:
    assert replace_texts(before, {PUMP: "n.tflite"}) == after


def test_many_at_once_and_some_in_lists() -> None:
    before = """\
public_keys = [  # ours
  "x/a.pem",
  "x/a.pem",
]
[sources.board]
port = '''
/dev/x'''
[sensors.fan]
artifact = "same"
[sensors.pump]
artifact = "same"
"""
    changes: dict[Place, str] = {
        ("sensors", "fan", "artifact"): "fan",
        PUMP: "pump",
        ("public_keys", 1): "b.pem",
        ("sources", "board", "port"): "/dev/y",
    }
    after = replace_texts(before, changes)
    assert after.splitlines() == [
        "public_keys = [  # ours",
        '  "x/a.pem",',
        '  "b.pem",',
        "]",
        "[sources.board]",
        'port = "/dev/y"',
        "[sensors.fan]",
        'artifact = "fan"',
        "[sensors.pump]",
        'artifact = "pump"',
    ]


def test_what_stays_the_same_is_not_written_anew() -> None:
    text = "[sensors.pump]\nartifact = 'pump.tflite'\n"
    assert replace_texts(text, {PUMP: "pump.tflite"}) == text


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
TABLES = st.dictionaries(st.text("ab\"'# .", min_size=1, max_size=3), TEXTS, min_size=1, max_size=4)


@given(st.dictionaries(st.text("xy#'", min_size=1, max_size=2), TABLES, min_size=1), st.data())
def test_whatever_the_texts_are(tables: dict[str, dict[str, str]], data: Any) -> None:
    lines = []
    for name, table in tables.items():
        lines.append(f"[{format_key([name])}] # 'x' = \"")
        lines += [f"{format_key([key])} = {format_value(text)} # '" for key, text in table.items()]
    name = data.draw(st.sampled_from(sorted(tables)))
    key, new = data.draw(st.sampled_from(sorted(tables[name]))), data.draw(TEXTS)
    changed = replace_texts("\n".join(lines), {(name, key): new})
    tables[name][key] = new
    assert tomllib.loads(changed) == tables
    assert changed.count("# 'x'") == len(tables)
