from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.configuration.locate import Key, locate
from edgelstm.configuration.toml_text import format_key, format_value


def test_lines_of_tables_keys_and_what_is_inside_of_them() -> None:
    text = '''\
name = "pump"  # line 1
[sources.board]

port = """
[no.table]
key = 1
"""
timeout = [ # no end ] yet
  1,
  2]
[sensors.pump.detection]
k = 3
[sensors.pump]
artifact.path = { deep = [{ inner = 1 }] }
'''
    assert locate(text) == {
        ("name",): 1,
        ("sources",): 2,
        ("sources", "board"): 2,
        ("sources", "board", "port"): 4,
        ("sources", "board", "timeout"): 8,
        ("sensors",): 11,
        ("sensors", "pump"): 13,
        ("sensors", "pump", "detection"): 11,
        ("sensors", "pump", "detection", "k"): 12,
        ("sensors", "pump", "artifact"): 14,
        ("sensors", "pump", "artifact", "path"): 14,
        ("sensors", "pump", "artifact", "path", "deep"): 14,
        ("sensors", "pump", "artifact", "path", "deep", "inner"): 14,
    }


@pytest.mark.parametrize(
    "statement",
    [
        'a = """\n"""',
        'a = """two "" quotes\n"""""',
        'a = """\\"""\n"""',
        'a = """\n""""',
        "a = '''\n'''''",
        "a = '''\\'''",
        'a = "\\" # ["',
        "a = '[\"'",
        "a = [ # ]\n '#', \"]\",\n]",
        'a = 1 # """ \' [',
        "a = { b = '}' }",
        'a = ""',
        "\n\n  # a comment [\n\ta = 1",
    ],
)
def test_the_line_after_a_statement_is_found(statement: str) -> None:
    for newline in ("\n", "\r\n"):
        text = f'{statement}\nlast = "x"'.replace("\n", newline)
        assert tomllib.loads(text)["last"] == "x"
        assert locate(text)[("last",)] == statement.count("\n") + 2


def test_an_array_of_tables_has_the_line_of_its_first() -> None:
    assert locate("[[a.b]]\nx = 1\n[[a.b]]\nx = 2\ny = 3\n[a.b.c]\n") == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "x"): 2,
        ("a", "b", "y"): 5,
        ("a", "b", "c"): 6,
    }


NAMES = st.text(max_size=6) | st.sampled_from(["a", "b", "c", "'", '"""', "#", "[x]", "a.b"])
VALUES = st.recursive(
    st.integers(-(2**40), 2**40) | st.booleans() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.text(st.sampled_from("ab'\"#[]{}\\\n = "), max_size=12)


def multi_line(text: str) -> str:
    """The text in three quotes, so that its line ends stay."""
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if escaped.endswith('"'):
        escaped = escaped[:-1] + '\\"'
    return f'"""\n{escaped}"""'


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Key, int]]:
    """TOML and the lines of its assignments and headers."""
    lines: list[str] = []
    expected: dict[Key, int] = {}

    def line() -> int:
        return "\n".join([*lines, ""]).count("\n") + 1

    tables = draw(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES | TEXTS, max_size=3)))
    for name, table in tables.items():
        lines += draw(st.lists(st.sampled_from(["", "# [a]", "\t# '''", " "]), max_size=2))
        expected[(name,)] = line()
        lines.append(f"[ {format_key([name])} ] # ]")
        for key, value in table.items():
            expected[(name, key)] = line()
            form = draw(st.sampled_from(["plain", "spread", "quoted"]))
            if form == "quoted" and isinstance(value, str) and "\r" not in value:
                shown = multi_line("".join(c for c in value if c.isprintable() or c == "\n"))
            elif form == "spread" and isinstance(value, list):
                shown = "[ # [\n" + "".join(f"  {format_value(v)},\n" for v in value) + "]"
            else:
                shown = format_value(value)
            lines.append(f"{format_key([key])} = {shown}")
    return "\n".join(lines), expected


@settings(max_examples=60)
@given(documents())
def test_every_statement_of_any_text_is_found(document: tuple[str, dict[Key, int]]) -> None:
    text, expected = document
    found = locate(text)
    assert {key: found[key] for key in expected} == expected
    assert set(found) == set(keys(tomllib.loads(text)))


def keys(value: Any, key: Key = ()) -> list[Key]:
    if isinstance(value, list):
        return [inner for each in value for inner in keys(each, key)]
    if isinstance(value, dict):
        return [
            found
            for name, each in value.items()
            for found in [(*key, name), *keys(each, (*key, name))]
        ]
    return []
