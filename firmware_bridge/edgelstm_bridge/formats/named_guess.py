"""Whether lines are JSON, labels and values, or keys and values: kinds that name their numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgelstm_bridge.formats.cells import default_names, is_no_number, quantity
from edgelstm_bridge.formats.errors import FormatError, shown
from edgelstm_bridge.formats.format import Format
from edgelstm_bridge.formats.guess import Guess, Sample, choose_channels, refuse_names
from edgelstm_bridge.formats.json_lines import flatten, load_line, starts_like
from edgelstm_bridge.formats.pairs import SIGNS, split_pairs
from edgelstm_bridge.formats.time_column import find_time

_FEWEST_SIGHTINGS = 2  # a label that was garbled comes once

_Line = Mapping[str, bytes]  # the names of a line's numbers and their texts


def guess_pairs(sample: Sample, wanted: Format) -> Iterator[Guess]:
    """The way to read lines as labels and values."""
    sign = SIGNS[wanted.kind]
    lines: dict[int, _Line] = {}
    twice = []
    for i in range(sample.first_row, len(sample.lines)):
        try:
            pairs = split_pairs(sample.lines[i], sign)
        except ValueError as error:
            twice.append((i, str(error)))
            continue
        if pairs and any(map(_is_quantity, pairs.values())):
            lines[i] = {label.decode(): text for label, text in pairs.items()}
    _refuse_twice(sample, wanted, twice, len(lines))
    if lines:
        yield _guess(sample, wanted, lines, array=None)


def guess_json(sample: Sample, wanted: Format) -> Iterator[Guess]:
    """The ways to read lines as JSON: as objects and as arrays."""
    names_twice: list[str] = []
    decode = json.JSONDecoder(object_pairs_hook=_Once(names_twice)).decode
    for array in (False, True) if wanted.array is None else (wanted.array,):
        lines: dict[int, _Line] = {}
        twice = []
        for i in range(sample.first_row, len(sample.lines)):
            try:
                names_twice.clear()
                loaded = load_line(sample.lines[i], decode)
                if names_twice:
                    twice.append((i, names_twice[0]))
                    continue
                if type(loaded) is not (list if array else dict):
                    continue
                if array and any(isinstance(value, dict | list) for value in loaded):
                    continue
                leaves = {name: _leaf_text(leaf) for name, leaf in flatten(loaded).items()}
            except ValueError:
                continue
            if any(map(_is_quantity, leaves.values())):
                lines[i] = leaves
        _refuse_twice(sample, wanted, twice, len(lines))
        if lines:
            yield _guess(sample, wanted, _of_usual_length(lines) if array else lines, array=array)


def _guess(sample: Sample, wanted: Format, lines: Mapping[int, _Line], array: bool | None) -> Guess:
    good = tuple(lines)
    whole = sample.lines[sample.first_row :]
    resembling = 0 if array is None else sum(starts_like(line, array) for line in whole)
    numbers = sum(map(_is_quantity, lines[good[0]].values()))
    return Guess(
        option=f"{wanted.kind}:array={'yes' if array else 'no'}" if array else wanted.kind,
        good=good,
        resembling=max(resembling, len(good)),
        numbers=numbers,
        doubt="",
        build=lambda: _build(sample.lines[good[0]], wanted, list(lines.values()), array),
    )


def _build(line: bytes, wanted: Format, lines: Sequence[_Line], array: bool | None) -> Format:
    """The format.

    Raises:
        FormatError: the names do not allow it.
    """
    sightings = Counter(name for names in lines for name in names)
    fewest = min(_FEWEST_SIGHTINGS, len(lines))
    names = [name for name, count in sightings.items() if count >= fewest]
    if array:
        lines, names = _named_array(line, wanted, lines)
    columns = {name: [texts[name] for texts in lines if name in texts] for name in names}
    units = {name: _unit(wanted, texts) for name, texts in columns.items()}
    if array and not wanted.time and wanted.columns is None:
        time_name, time_unit = "", None
    else:
        time_name, time_unit = find_time(wanted, columns, units)
    present = [
        name
        for name, texts in columns.items()
        if (name != time_name or not name)
        and 2 * sum(_is_value(text) for text in texts) >= len(texts)
    ]
    channels = choose_channels(wanted, present, line)
    if not array:
        refuse_names([name for name in names if name in (*channels, time_name)], wanted, line)
    return Format(
        wanted.kind,
        array=array,
        columns=tuple(names),
        channels=channels,
        units=wanted.units or tuple(units[name] for name in channels),
        time=time_name,
        time_unit=time_unit,
    )


def _named_array(
    line: bytes, wanted: Format, lines: Sequence[_Line]
) -> tuple[list[_Line], list[str]]:
    """The lines of arrays and the names of their numbers, which have only indices."""
    count = len(lines[0])
    names = list(wanted.columns or ())
    if not names:
        time = int(wanted.time[:4]) if wanted.time and wanted.time.isdigit() else -1
        others = [k for k in range(count) if k != time]
        given = wanted.channels or default_names(len(others))
        if len(given) == len(others):
            names = ["time"] * count
            for k, name in zip(others, given, strict=True):
                names[k] = name
        else:
            names = list(given)
    if len(names) != count:
        raise FormatError(
            f"The device sends lines such as {shown(line)}, with {count} numbers, but --format "
            f"names {len(names)} ({', '.join(names)}); name them all."
        )
    return [dict(zip(names, texts.values(), strict=True)) for texts in lines], names


def _of_usual_length(lines: Mapping[int, _Line]) -> dict[int, _Line]:
    usual = Counter(map(len, lines.values())).most_common(1)[0][0]
    return {i: line for i, line in lines.items() if len(line) == usual}


def _unit(wanted: Format, texts: Sequence[bytes]) -> str:
    """The unit that most values have behind them."""
    if wanted.kind == "json":
        return ""
    units: Counter[bytes] = Counter()
    for text in texts:
        try:
            value, unit = quantity(text)
        except ValueError:
            continue
        if value == value:
            units[unit] += 1
    return units.most_common(1)[0][0].decode() if units else ""


def _is_quantity(text: bytes) -> bool:
    return _is_value(text) and not is_no_number(text)


def _is_value(text: bytes) -> bool:
    try:
        quantity(text)
    except ValueError:
        return False
    return True


def _leaf_text(leaf: Any) -> bytes:
    """A leaf of JSON as the text of a cell."""
    if isinstance(leaf, bool):
        return b"1" if leaf else b"0"
    return str(leaf).encode("utf-8", "replace")


class _Once:
    """Makes objects of JSON, and collects the names that come twice in one."""

    def __init__(self, twice: list[str]) -> None:
        self._twice = twice

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            names = Counter(name for name, _ in pairs)
            self._twice.append(names.most_common(1)[0][0])
        return value


def _refuse_twice(
    sample: Sample, wanted: Format, twice: Sequence[tuple[int, str]], good: int
) -> None:
    """Refuses a stream in which more lines have a name twice than not.

    Raises:
        FormatError: it is so.
    """
    if len(twice) > good and len(twice) >= _FEWEST_SIGHTINGS:
        index, name = twice[0]
        refuse_names([name, name], wanted, sample.lines[index])
