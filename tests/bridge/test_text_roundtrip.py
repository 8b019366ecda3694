import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_bridge.formats import Format, Note, Row, TextDecoder, detect
from edgelstm_bridge.formats.checksum import with_checksum

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1023, 1023).map(float)
VARIANTS = [
    *[f"csv:delimiter={name},decimal=point" for name in ("comma", "semicolon", "tab", "bar")],
    "csv:delimiter=space,decimal=point",
    "csv:delimiter=semicolon,decimal=comma",
    "label",
    "keyvalue",
    "json:array=no",
    "json:array=yes",
]
MARKS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": "  "}


def encode(fmt: Format, rows: Sequence[Row]) -> list[bytes]:
    """The lines that say the rows, without ends; the time comes last."""
    names = fmt.columns or ()
    lines = []
    if fmt.header:
        lines.append(MARKS[fmt.delimiter or ""].join(names))
    for row in rows:
        numbers = [*row.values, *([] if row.clock is None else [row.clock])]
        if fmt.kind == "json":
            leaves = [None if math.isnan(number) else number for number in numbers]
            lines.append(json.dumps(leaves if fmt.array else dict(zip(names, leaves, strict=True))))
            continue
        texts = [repr(number) for number in numbers]
        if fmt.kind == "csv":
            line = MARKS[fmt.delimiter or ""].join(texts)
            lines.append(line.replace(".", ",") if fmt.decimal == "comma" else line)
        elif fmt.kind == "label":
            lines.append(",".join(f"{a}:{b}" for a, b in zip(names, texts, strict=True)))
        else:
            lines.append(" ".join(f"{a}={b}" for a, b in zip(names, texts, strict=True)))
    encoded = [line.encode() for line in lines]
    return [with_checksum(line) for line in encoded] if fmt.checksum else encoded


def read(fmt: Format, chunks: Sequence[bytes]) -> tuple[list[Row | Note], str]:
    decoder = TextDecoder(fmt, whole_start=True)
    items = [item for chunk in chunks for item in decoder.feed(chunk)]
    return items, repr(decoder.counters)


@st.composite
def streams(draw: st.DrawFn, nan: bool) -> tuple[Format, list[Row], bytes]:
    variant = Format.parse(draw(st.sampled_from(VARIANTS)))
    count = draw(st.integers(1, 5))
    timed = draw(st.booleans())
    names = tuple(f"ch{k}" for k in range(count))
    fmt = Format(
        variant.kind,
        delimiter=variant.delimiter,
        decimal=variant.decimal,
        header=draw(st.booleans()) if variant.kind == "csv" else None,
        array=variant.array,
        columns=(*names, "millis") if timed else names,
        channels=names,
        time="millis" if timed else "",
        time_unit="ms" if timed else None,
        checksum=draw(st.booleans()),
    )
    number = NUMBERS | st.just(math.nan) if nan else NUMBERS
    rows = [
        Row(tuple(values), 10.0 * k if timed else None)
        for k, values in enumerate(
            draw(st.lists(st.lists(number, min_size=count, max_size=count), min_size=4, max_size=9))
        )
    ]
    end = draw(st.sampled_from([b"\n", b"\r", b"\r\n"]))
    return fmt, rows, b"".join(line + end for line in encode(fmt, rows))


@given(streams(nan=True), st.data())
def test_rows_come_back_whatever_the_chunks(
    stream: tuple[Format, list[Row], bytes], data: st.DataObject
) -> None:
    fmt, rows, encoded = stream
    whole, counters = read(fmt, [encoded])
    assert repr([item for item in whole if isinstance(item, Row)]) == repr(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(encoded)), max_size=20)))
    pieces = [encoded[i:j] for i, j in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    items, counters_of_pieces = read(fmt, pieces)
    assert (repr(items), counters_of_pieces) == (repr(whole), counters)


@given(streams(nan=False))
def test_detection_finds_what_was_written(stream: tuple[Format, list[Row], bytes]) -> None:
    fmt, rows, encoded = stream
    wanted = None
    if (
        not fmt.header
        and fmt.kind in ("csv", "json")
        and not (fmt.kind == "json" and not fmt.array)
    ):
        # Without names, the user says what they are, and of commas what they mean.
        wanted = Format(fmt.kind, fmt.delimiter, decimal=fmt.decimal, columns=fmt.columns)
    elif fmt.decimal == "comma":  # 1,5 below a single name may still be two numbers
        wanted = Format("csv", decimal="comma")
    told = detect(encoded, wanted, whole_start=True)
    assert told.columns == fmt.columns
    assert (told.kind, told.checksum, told.time) == (fmt.kind, fmt.checksum, fmt.time)
    found = [item for item in read(told, [encoded])[0] if isinstance(item, Row)]
    assert found == rows


LABELS = Format("label", columns=("a", "b"), channels=("a", "b"), time="", checksum=False)


@pytest.mark.parametrize("kind", ["label", "keyvalue"])
@given(st.lists(NUMBERS, min_size=2, max_size=2), st.sampled_from([", ", ";", "\t", " ", "  "]))
def test_the_order_of_labels_does_not_matter(kind: str, values: list[float], mark: str) -> None:
    fmt = Format.parse(str(LABELS).replace("label", kind))
    sign = ":" if kind == "label" else "="
    pairs = [f"{name}{sign}{value}" for name, value in zip("ab", values, strict=True)]
    # In the usual order they are read in another way than in any other.
    for line in (mark.join(pairs), mark.join(reversed(pairs))):
        assert read(fmt, [line.encode() + b"\n"])[0] == [Row(tuple(values), None)]
