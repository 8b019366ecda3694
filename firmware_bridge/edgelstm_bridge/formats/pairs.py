"""Labels and values: `temp:21.5,hum:40` of the Arduino Serial Plotter, and `t=21.5 h=40`."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from edgelstm_bridge.formats.cells import is_no_number, number, picker, quantity
from edgelstm_bridge.formats.format import Format, Kind
from edgelstm_bridge.formats.rows import Row, TextCounters
from edgelstm_bridge.formats.times import unix_seconds

SIGNS: dict[Kind, bytes] = {"label": b":", "keyvalue": b"="}

# The look-behind keeps a long run of blanks from being tried from each of its places.
_BLANKS_AROUND = {
    sign: re.compile(rb"(?:(?<![ \t])[ \t]+)?" + sign + rb"[ \t]*") for sign in SIGNS.values()
}
_BETWEEN = re.compile(rb"[,;\t]")
_LABEL = re.compile(rb"[A-Za-z_\x80-\xff][^:=]{0,63}")


def split_pairs(line: bytes, sign: bytes) -> dict[bytes, bytes] | None:
    """The labels of a line and their values as text; None when it is not made of such pairs.

    Raises:
        ValueError: a label comes twice; its text is that label.
    """
    if sign not in line:
        return None
    if b" " in line or b"\t" in line:
        line = _BLANKS_AROUND[sign].sub(sign, line.strip())
    # Labels and units may have spaces in them unless spaces are all that divides the pairs.
    only_blanks = b"," not in line and b";" not in line and b"\t" not in line
    if only_blanks:
        pieces = [line] if line.count(sign) == 1 else line.split()
    else:
        pieces = _BETWEEN.split(line)
    pairs: dict[bytes, bytes] = {}
    label = b""
    for piece in pieces:
        head, found, tail = piece.partition(sign)
        if found:
            label = head.strip(b" \"'")
            if not _LABEL.fullmatch(label):
                return None
            if label in pairs:
                raise ValueError(label.decode("utf-8", "replace"))
            pairs[label] = tail
        elif not piece.strip():
            continue
        elif only_blanks and label:
            pairs[label] += b" " + piece  # the unit of `temp: 21.5 C`
        else:
            return None
    return pairs


class PairParser:
    """Parses lines of labels and values.

    Args:
        fmt: complete.
        counters: where unknown labels are counted.
    """

    def __init__(self, fmt: Format, counters: TextCounters) -> None:
        self._sign = SIGNS[fmt.kind]
        self._counters = counters
        channels, columns = fmt.channels or (), fmt.columns or ()
        self._indices = {name.encode(): k for k, name in enumerate(channels)}
        self._units = [unit.encode() for unit in fmt.channel_units]
        self._empty = [math.nan] * len(channels)
        self._time = fmt.time.encode() if fmt.time else b""
        self._time_is_text = fmt.time_is_text
        labels = {name.encode() for name in columns}
        self._ignored = labels - set(self._indices)
        alternatives = b"|".join(map(re.escape, sorted(labels)))
        self._known = re.compile(rb"(?:" + alternatives + rb")[ \t]*" + self._sign)
        wanted = [*channels, *([fmt.time] if fmt.time else [])]
        order = [name for name in columns if name in wanted]
        self._pick = picker([order.index(name) for name in wanted], len(order))
        self._match = None if fmt.time_is_text else _usual_line(fmt, order).fullmatch

    def parse(self, line: bytes) -> Row | None:
        """See `LineParser.parse`."""
        match = self._match(line) if self._match else None
        if match is not None:
            groups = match.groups()
            try:
                values = tuple(map(float, self._pick(groups) if self._pick else groups))
                total = sum(values)
                if total - total == 0.0:
                    return Row(values[:-1], values[-1]) if self._time else Row(values, None)
            except ValueError:  # words such as "nan"
                pass
        return self._parse_any(line)

    def _parse_any(self, line: bytes) -> Row | None:
        """The row in a line whose labels may be missing, unknown or in another order."""
        values = self._empty.copy()
        found = unknown = 0
        try:
            pairs = split_pairs(line, self._sign)
            if pairs is None:
                return None
            for label, text in pairs.items():
                k = self._indices.get(label)
                if k is not None:
                    values[k] = _value(text, self._units[k])
                    found += 1
                elif label not in self._ignored:
                    unknown += 1
            clock = self._clock(pairs) if self._time else None
        except (ValueError, OverflowError):
            return None
        if not found:
            return None
        self._counters.unknown_labels += unknown
        return Row(tuple(values), clock)

    def resembles(self, line: bytes) -> bool:
        """See `LineParser.resembles`."""
        return self._known.search(line) is not None

    def is_header(self, line: bytes, may_be_cut: bool = False) -> bool:  # noqa: ARG002
        """See `LineParser.is_header`."""
        return False

    def _clock(self, pairs: dict[bytes, bytes]) -> float:
        text = pairs.get(self._time)
        if text is None:
            raise ValueError("no time")
        if self._time_is_text:
            return unix_seconds(text.decode())
        clock, _ = quantity(text)
        if math.isnan(clock):
            raise ValueError("no time")
        return clock


def _value(text: bytes, unit: bytes) -> float:
    """The number in a value that has this unit behind it, or none.

    Raises:
        ValueError: it is no number, or one in another unit.
    """
    text = text.strip()
    if unit and text.endswith(unit) and not is_no_number(text):
        text = text.removesuffix(unit)
        if not text:
            raise ValueError(text)
    return number(text)


def _usual_line(fmt: Format, wanted: Collection[str]) -> re.Pattern[bytes]:
    """What matches a line with all labels in their order, and takes out the wanted numbers."""
    units = dict(zip(fmt.channels or (), fmt.channel_units, strict=True))
    pieces = []
    for name in fmt.columns or ():
        unit = re.escape(units.get(name, "").encode())
        value = rb"([0-9+\-.eE]+)" if name in wanted else rb"[^ \t,;]*"
        if unit:
            value += rb"(?:[ \t]?" + unit + rb")?"
        pieces.append(re.escape(name.encode()) + rb"[ \t]*" + SIGNS[fmt.kind] + rb"[ \t]*" + value)
    return re.compile(rb"[ \t]*" + rb"[,; \t]+".join(pieces) + rb"[,; \t]*")
