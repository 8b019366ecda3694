"""Noise and mutated streams through every parser: no exception but `FormatError`, flat memory.

`SIZE` is small here; `fuzz` takes any size, for long runs elsewhere.
"""

import gc
import itertools
import tracemalloc
from collections.abc import Iterator
from unicodedata import category

import pytest
from fuzzing import mutated, noise

from edgelstm_bridge.formats import Format, FormatError, Note, Row, TextDecoder, detect
from edgelstm_bridge.formats.checksum import with_checksum

pytestmark = pytest.mark.slow

SIZE = 100_000  # bytes for each of twenty runs
PEAK = 1_000_000  # bytes that a decoder and what it gives for a chunk may take
GROWTH = 10_000  # bytes that may be left over from ten times as many lines

_REST = "columns=a+b+millis,channels=a+b,time=millis,checksum=no"
STREAMS = {
    f"csv:delimiter=comma,header=no,decimal=point,{_REST}": b"1.5,-2e3,10\r\n,nan,20\r\n",
    f"csv:delimiter=comma,header=yes,decimal=point,{_REST}": b"a,b,millis\n1,2,10\n3,4,20\n",
    f"csv:delimiter=space,header=no,decimal=comma,{_REST}": b"1,5 2 10\r\n-2,5\t 3 20\r\n",
    "csv:delimiter=comma,header=no,decimal=point,columns=a,channels=a,time=no,checksum=no": (
        b"1.5\n-2\n"
    ),
    f"csv:delimiter=tab,header=no,decimal=point,{_REST},time_unit=iso": (
        b"1\t2\t2026-01-02T03:04:05Z\n1\t2\t2026-01-02 03:04:06\n"
    ),
    f"label:{_REST}": b"a:1,b:2,millis:10\nmillis: 20 a: 1.5 new: 7\r\n",
    f"keyvalue:units=C+%25,{_REST}": "a=1C; b=2%; millis=10\nmillis=20 a=1.5 °C\r\n".encode(),
    f"json:array=no,{_REST}": b'{"a":1,"b":[1],"millis":1e1}\n{"a":true,"b":"2","millis":20}\n',
    f"json:array=yes,{_REST}": b"[1,2.5,10]\r\n[null,nan,20]\r\n",
    f"csv:delimiter=comma,header=no,decimal=point,{_REST}".replace("sum=no", "sum=yes"): (
        with_checksum(b"1,2,10") + b"\n" + with_checksum(b"1,3,20") + b"\nBooting...\n"
    ),
}
MESSAGES = b"ets Jun  8 2016\r\n\x1b[0;32mI (31) boot: ok\x1b[0m\r\n# x,y\r\n"


def stream_of(option: str, seed: int, size: int) -> Iterator[bytes]:
    """Noise of half the size, then the option's stream, mutated."""
    valid = STREAMS[option] * 50 + MESSAGES
    return itertools.chain(noise(seed, size // 2), mutated(valid, seed, size - size // 2))


def fuzz(option: str, seed: int, size: int) -> int:
    """Feeds a decoder and returns how many rows came of it; anew after a `FormatError`."""
    fmt = Format.parse(option)
    rows = 0
    decoder = TextDecoder(fmt)
    for chunk in stream_of(option, seed, size):
        try:
            items = decoder.feed(chunk)
        except FormatError:
            decoder = TextDecoder(fmt)
            continue
        for item in items:
            if isinstance(item, Row):
                assert len(item.values) == len(fmt.channels or ())
                rows += 1
            else:
                assert not any(category(c) == "Cc" for c in item.text if c != "\t")
    return rows


@pytest.mark.parametrize("option", STREAMS)
def test_nothing_breaks_a_decoder(option: str) -> None:
    tracemalloc.start()
    try:
        fuzz(option, 0, SIZE // 10)
        before = memory()
        rows = fuzz(option, 1, SIZE)
        _, peak = tracemalloc.get_traced_memory()
        after = memory()
    finally:
        tracemalloc.stop()
    assert rows > 0
    assert peak < PEAK
    assert after - before < GROWTH


@pytest.mark.parametrize("option", STREAMS)
def test_chunks_do_not_matter_to_damage(option: str) -> None:
    chunks = list(stream_of(option, 2, SIZE))
    stream = b"".join(chunks)
    bigger = [stream[i : i + 50_000] for i in range(0, len(stream), 50_000)]
    # repr: NaN is not equal to itself.
    assert repr(read(option, chunks)) == repr(read(option, bigger))


def memory() -> int:
    gc.collect()  # gives back what Python keeps of freed tuples and floats, too
    return tracemalloc.get_traced_memory()[0]


def read(option: str, chunks: list[bytes]) -> tuple[list[Row | Note], str]:
    decoder = TextDecoder(Format.parse(option))
    items: list[Row | Note] = []
    for chunk in [*chunks, b""]:  # an error comes with the chunk after the header's
        try:
            items += decoder.feed(chunk)
        except FormatError as error:
            return items, str(error)
    return items, repr(decoder.counters)


@pytest.mark.parametrize("seed", range(20))
def test_detection_gives_a_format_or_says_why_not(seed: int) -> None:
    option = list(STREAMS)[seed % len(STREAMS)]
    for size in (100, 3000, 20_000):
        chunks = noise(seed, size) if seed % 4 == 0 else mutated(STREAMS[option] * 9, seed, size)
        fmt, complaint = detected(b"".join(chunks))
        if fmt is None:
            assert 0 < len(complaint) < 400
            assert complaint.isprintable()
        else:
            assert fmt.complete
            assert Format.parse(str(fmt)) == fmt
            TextDecoder(fmt)


def detected(stream: bytes) -> tuple[Format | None, str]:
    try:
        return detect(stream), ""
    except FormatError as error:
        return None, str(error)
