"""What `detect` makes of the first second of invented, but usual boards."""

import math
import re
from itertools import count
from pathlib import Path

import pytest

from edgelstm_bridge.formats import Format, FormatError, Row, TextDecoder, TooFewLinesError, detect
from edgelstm_bridge.formats.checksum import with_checksum


def lines(*texts: str, end: str = "\r\n") -> bytes:
    return "".join(text + end for text in texts).encode()


def told(stream: bytes, wanted: str | None = None, whole_start: bool = False) -> Format:
    fmt = detect(stream, Format.parse(wanted) if wanted else None, whole_start=whole_start)
    assert fmt.complete
    assert Format.parse(str(fmt)) == fmt
    assert detect(b"", fmt) is fmt
    return fmt


def rows(fmt: Format, stream: bytes) -> list[Row]:
    return [item for item in TextDecoder(fmt).feed(stream) if isinstance(item, Row)]


ESP32_BOOT = (
    "ets Jun  8 2016 00:22:57",
    "rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)",
    "load:0x3fff0030,len:1184",
    "entry 0x400805f0",
    "Booting...",
    "[I][main.cpp] wifi ok",
)


@pytest.mark.parametrize(
    ("delimiter", "texts"),
    [
        ("comma", ("1,2.5", "2,3.5", "3,4.5", "4,5")),
        ("comma", ("1, 2.5", "2, 3.5", "3, 4.5", "4, 5")),
        ("comma", ("1,2.5,", "2,3.5,", "3,4.5,", "4,5,")),
        ("semicolon", ("1;2.5", "2;3.5", "3;4.5", "4;5")),
        ("semicolon", ("1;2,5", "2;3,5", "3;4,5", "4;5")),
        ("tab", ("1\t2.5", "2\t3.5", "3\t4.5", "4\t5")),
        ("space", ("1 2.5", "2   3.5", "3 4.5", " 4 5")),
        ("space", ("1 \t2.5", "2  \t3.5", "3 \t4.5", "4 \t5")),
        ("bar", ("1|2.5", "2 | 3.5", "3|4.5", "4|5")),
        ("space", ("1 2,5", "2 3,05", "3 4,5", "4 5")),
        ("tab", ("1\t2,5", "2\t-0,5", "3\t4,5", "4\t5")),
    ],
)
def test_delimiters(delimiter: str, texts: tuple[str, ...]) -> None:
    stream = lines(*texts)
    if delimiter == "space" and "\t" in texts[0]:
        delimiter = "tab"  # a tab divides, whatever blanks there are beside it
    fmt = told(stream)
    assert (fmt.kind, fmt.delimiter, fmt.header) == ("csv", delimiter, False)
    assert fmt.channels == ("channel_0", "channel_1")
    assert [row.values[0] for row in rows(fmt, stream)] == [2.0, 3.0, 4.0]
    assert rows(fmt, stream)[-1].values == (4.0, 5.0)


def test_one_number_a_line() -> None:
    fmt = told(lines("7", "-8.5", "1e3", ".5", "nan"))
    assert (fmt.kind, fmt.channels, fmt.header) == ("csv", ("channel_0",), False)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("temp,hum", "21.5,40"),
        ("temp, hum", "21.5, 40"),
        ("temp,hum,", "21.5,40,"),
        ("temp,hum", "21.5,40,"),
        ('"temp","hum"', "21.5,40"),
        ("temp;hum", "21,5;40,0"),
        ("temp hum", "21.5 40"),
        ("temp\thum", "21.5\t40"),
        ("temp|hum", "21.5|40"),
        ("temp hum", "21,5 40,1"),
    ],
)
@pytest.mark.parametrize("before", [(), ESP32_BOOT, ("1.5,40", *ESP32_BOOT)])
def test_headers(header: str, row: str, before: tuple[str, ...]) -> None:
    stream = lines(*before, header, *[row] * 6)
    fmt = told(stream)
    assert (fmt.header, fmt.channels) == (True, ("temp", "hum"))
    assert [row.values[0] for row in rows(fmt, stream)][-6:] == [21.5] * 6


@pytest.mark.parametrize(
    ("header", "channels", "units"),
    [
        ("temp [C],hum(%)", ("temp", "hum"), ("C", "%")),
        ("Temperatur (°C),x", ("Temperatur", "x"), ("°C", "")),
        ("A1,B2", ("A1", "B2"), ()),
        ("Air temp,Soil temp", ("Air temp", "Soil temp"), ()),
        ("_a,b-c", ("_a", "b-c"), ()),
    ],
)
def test_names_and_units(header: str, channels: tuple[str, ...], units: tuple[str, ...]) -> None:
    fmt = told(lines("boot", header, *["1,2"] * 4))
    assert (fmt.channels, fmt.units) == (channels, units)


@pytest.mark.parametrize("first", ["4temp,hum", "[C],hum [%]", "C],hum [%]"])
def test_a_header_with_the_end_of_a_row_or_without_its_start_is_none(first: str) -> None:
    assert told(lines(first, *["1,2"] * 5)).header is False


def test_a_header_in_the_middle() -> None:
    stream = lines("2", "1,2", "1,2", "Booting", "temp,hum", "1,2", "3,4", "5,6")
    fmt = told(stream)
    assert fmt.channels == ("temp", "hum")
    assert len(rows(fmt, stream)) == 5


def test_a_text_column_is_no_channel() -> None:
    fmt = told(lines("temp,state,hum", *["1,OK,2", "1,FAIL,2"] * 3))
    assert (fmt.columns, fmt.channels) == (("temp", "state", "hum"), ("temp", "hum"))
    assert told(lines(*["SENS,1,2"] * 5)).channels == ("channel_0", "channel_1")


@pytest.mark.parametrize(
    "row",
    ["temp:21.5,hum:40", "temp:21.5\thum:40", "temp:21.5 hum:40", "temp: 21.5, hum: 40",
     "temp: 21.5 hum: 40"],
)  # fmt: skip
def test_labels(row: str) -> None:
    fmt = told(lines(*[row] * 5))
    assert (fmt.kind, fmt.channels) == ("label", ("temp", "hum"))
    assert rows(fmt, lines("", row)) == [Row((21.5, 40.0), None)]


@pytest.mark.parametrize("row", ["t=21.5 h=40", "t=21.5,h=40", "t = 21.5; h = 40", "t=21.5\th=40"])
def test_keys_and_values(row: str) -> None:
    fmt = told(lines(*[row] * 5))
    assert (fmt.kind, fmt.channels, fmt.time) == ("keyvalue", ("t", "h"), "")


@pytest.mark.parametrize(
    ("row", "units"),
    [
        ("temp:21.5C,hum:40%", ("C", "%")),
        ("temp: 21.5 °C, hum: 40", ("°C", "")),
        ("temp: 21.5 m/s2 hum: 40 %", ("m/s2", "%")),
    ],
)
def test_glued_units(row: str, units: tuple[str, str]) -> None:
    fmt = told(lines(*[row] * 5))
    assert (fmt.channels, fmt.units) == (("temp", "hum"), units)
    assert rows(fmt, lines("", row)) == [Row((21.5, 40.0), None)]


@pytest.mark.parametrize(
    ("row", "channels", "values"),
    [
        ('{"temp":21.5,"hum":40}', ("temp", "hum"), (21.5, 40.0)),
        ('{"acc":{"x":1,"y":2},"on":true}', ("acc.x", "acc.y", "on"), (1.0, 2.0, 1.0)),
        ('{"acc":[1,2],"id":"pump"}', ("acc.0", "acc.1"), (1.0, 2.0)),
        ("[1, 2.5]", ("channel_0", "channel_1"), (1.0, 2.5)),
    ],
)
def test_json(row: str, channels: tuple[str, ...], values: tuple[float, ...]) -> None:
    fmt = told(lines(*ESP32_BOOT, *[row] * 4))
    assert (fmt.kind, fmt.channels) == ("json", channels)
    assert rows(fmt, lines("", row)) == [Row(values, None)]


def test_labels_that_come_now_and_then_are_channels_garbled_ones_not() -> None:
    fmt = told(lines(*["a:1,b:2", "a:1"] * 3, "a:1,d:2"))
    assert fmt.channels == ("a", "b")


@pytest.mark.parametrize("body", ["1,2", "SENS,1,2", "temp:1,hum:2", '{"a":1,"b":2}', "a=1 b=2"])
@pytest.mark.parametrize("dollar", [True, False])
def test_checksums(body: str, dollar: bool) -> None:
    line = with_checksum(body.encode())[0 if dollar else 1 :] + b"\r\n"
    stream = line * 6 + line.replace(b"1", b"3") + lines("Booting...")
    fmt = told(stream)
    assert fmt.checksum
    assert [row.values for row in rows(fmt, stream)] == [(1.0, 2.0)] * 5


TICKS = range(1000, 1100, 10)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("millis", 1e-3), ("MS", 1e-3), ("Time_ms", 1e-3), ("t_ms", 1e-3), ("time [ms]", 1e-3),
        ("micros", 1e-6), ("t_us", 1e-6), ("time (µs)", 1e-6), ("us", 1e-6), ("time_ns", 1e-9),
        ("seconds", 1.0), ("uptime_s", 1.0), ("t [s]", 1.0), ("epoch", 1.0),
        ("time", None), ("Timestamp", None), ("t", None), ("uptime", None),
    ],
)  # fmt: skip
def test_time_columns(name: str, unit: float | None) -> None:
    stream = lines(f"a,{name}", *[f"1.5,{tick}" for tick in TICKS])
    fmt = told(stream)
    assert fmt.time == name.partition(" ")[0]
    assert (fmt.channels, fmt.clock_unit) == (("a",), unit)
    assert [row.clock for row in rows(fmt, stream)] == list(TICKS)


@pytest.mark.parametrize("name", ["t", "s"])
@pytest.mark.parametrize(
    "values", [[21.5] * 9, [21.5, 21.6] * 5, [1, 2, 3], [1, 2, 4, 5, 900, 901, 1900, 5000]]
)
def test_short_names_are_time_only_if_they_run_like_one(name: str, values: list[float]) -> None:
    assert told(lines(f"a,{name}", *[f"1,{value}" for value in values])).time == ""


@pytest.mark.parametrize("name", ["t [C]", "temp", "runtime", "times", "time [C]"])
def test_other_names_are_no_time(name: str) -> None:
    assert told(lines(f"a,{name}", *[f"1,{tick}" for tick in TICKS])).time == ""


def test_iso_times() -> None:
    stream = lines("time;a", *[f"2026-01-02T03:04:0{k}Z;{k}" for k in range(5)])
    fmt = told(stream)
    assert (fmt.time, fmt.time_unit, fmt.clock_unit, fmt.channels) == ("time", "iso", 1.0, ("a",))
    assert rows(fmt, stream)[1] == Row((1.0,), 1767323041.0)


def test_times_of_other_kinds() -> None:
    fmt = told(lines(*[f'{{"ts":"2026-01-02 03:04:0{k}","a":1}}' for k in range(5)]))
    assert (fmt.time, fmt.time_unit, fmt.channels) == ("ts", "iso", ("a",))
    fmt = told(lines(*[f"millis:{k},a:1" for k in range(5)]))
    assert (fmt.time, fmt.time_unit, fmt.channels) == ("millis", "ms", ("a",))
    fmt = told(lines(*[f"t={k}us a=1" for k in range(5)]))
    assert (fmt.time, fmt.time_unit, fmt.channels) == ("t", "us", ("a",))


def test_without_a_header_no_column_is_the_time() -> None:
    stream = lines(*[f"{tick},1.5" for tick in TICKS])
    assert told(stream).time == ""
    fmt = told(stream, "csv:time=0,time_unit=ms")
    assert (fmt.time, fmt.channels, fmt.clock_unit) == ("time", ("channel_0",), 1e-3)
    assert rows(fmt, stream)[0] == Row((1.5,), 1010.0)
    stream = lines(*[f"[{tick},1.5]" for tick in TICKS])
    assert told(stream).time == ""
    assert told(stream, "json:time=0,channels=a").columns == ("time", "a")


class TestWanted:
    rows = lines("temp,hum,millis", *[f"21.5,40,{tick}" for tick in TICKS])

    def test_channels_are_chosen_from_a_header(self) -> None:
        fmt = told(self.rows, "csv:channels=hum")
        assert rows(fmt, self.rows)[0] == Row((40.0,), 1000.0)

    def test_channels_name_columns_without_one(self) -> None:
        fmt = told(lines(*["1,2"] * 4), "csv:channels=a+b,units=C+%25")
        assert (fmt.channels, fmt.units) == (("a", "b"), ("C", "%"))

    def test_a_header_may_be_ignored(self) -> None:
        fmt = told(self.rows, "csv:header=no,channels=a+b+c")
        assert (fmt.channels, fmt.time) == (("a", "b", "c"), "")

    def test_no_time(self) -> None:
        assert told(self.rows, "csv:time=no").channels == ("temp", "hum", "millis")

    def test_a_channel_that_is_called_like_a_time(self) -> None:
        assert told(self.rows, "csv:channels=hum+millis").time == ""

    @pytest.mark.parametrize(
        ("wanted", "values"),
        [("csv:decimal=comma", (21.5,)), ("csv:delimiter=comma,decimal=point", (21.0, 5.0))],
    )
    def test_commas(self, wanted: str, values: tuple[float, ...]) -> None:
        stream = lines(*["21,5"] * 4)
        assert rows(told(stream, wanted), stream)[0].values == values

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ("csv:channels=pres", "no numbers called 'pres', only temp, hum"),
            ("csv:header=no,channels=a+b", "with 3 channels.*names 2 \\(a, b\\)"),
            ("csv:columns=a+b+c", "sends the columns temp, hum, millis, not a, b, c"),
            ("csv:time=zeit", "no time called 'zeit', only temp, hum, millis"),
            ("csv:time=7", "no time called '7'"),
            ("csv:time_unit=iso", "'millis' holds numbers, which time_unit=iso is not for"),
            ("json", "no readings in a format"),
            ("csv:checksum=yes,delimiter=tab", "no readings in a format"),
        ],
    )
    def test_what_does_not_fit(self, wanted: str, message: str) -> None:
        with pytest.raises(FormatError, match=message):
            told(self.rows, wanted)

    def test_a_header_that_does_not_come(self) -> None:
        with pytest.raises(FormatError, match="no header row came; restart it"):
            told(lines(*["1,2"] * 5), "csv:header=yes")


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (lines(*["1,5 2,5"] * 5), '"1,5 2,5", whose commas may be.*csv:delimiter=space,decimal=co'),
        (lines(*["21,5", "21,05"] * 5), "whose comma may be.*--format csv:decimal=comma"),
        (lines(*["1,2", "1,2,3"] * 9), "only 9 of 17 lines have as many numbers"),
        (lines(*["hello world"] * 9), '"hello world", which are no readings.*--format csv|label'),
        (lines(*["1,2", "t=1"] * 9), "say which to read with --format"),
        (b"\xff\x80\x00\x12" * 50, "no text.*is the baud rate right"),
        (b"\xff\x80\x0012\n" * 50, "no text.*is the baud rate right"),
        (lines("a,a", *["1,2"] * 5), "two channels are called 'a'"),
        (lines("a,,c", *["1,2,3"] * 5), "column 2 has no name"),
        (lines(*["a:1,a:2"] * 5), "two channels are called 'a'"),
        (lines(*['{"a":1,"a":2}'] * 5), "two channels are called 'a'"),
        (lines(*['{"":1}'] * 5), "column 1 has no name"),
        (lines(*[",".join("1" * 65)] * 5), "65 channels, and 64 are the most"),
        (lines("abc", *["x" * 500] * 40), "which are no readings"),
    ],
)
def test_what_cannot_be_told(stream: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        told(stream)
    assert not isinstance(caught.value, TooFewLinesError)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "Nothing came"),
        (b"1,2,3", "No line has ended"),
        (lines("1,2", "1,2", "1,2"), "Only 2 lines such as"),
        (lines("hello"), "Only 1 whole line"),
    ],
)
def test_too_little(stream: bytes, message: str) -> None:
    with pytest.raises(TooFewLinesError, match=message):
        told(stream)


def test_a_whole_start_makes_the_first_line_count() -> None:
    assert told(lines("1,2", "1,2", "1,2"), whole_start=True).kind == "csv"
    assert detect(lines("1,2", "1,2"), min_lines=1).kind == "csv"


def test_64_channels_are_fine() -> None:
    assert len(told(lines(*[",".join("1" * 64)] * 5)).channels or ()) == 64


def test_damage_and_messages_are_no_hindrance() -> None:
    number = count()
    good = [f"{next(number)}.5,{math.sin(k):.3f},40" for k in range(50)]
    bad = ["7.5,0.1", "#debug", "1.5,x.2,40", "[W] wifi: lost, retry", "\x02\x03"]
    stream = lines("3,40", *good, *bad, *good)
    fmt = told(stream)
    assert fmt.channels == ("channel_0", "channel_1", "channel_2")
    decoder = TextDecoder(fmt)
    decoder.feed(stream)
    counters = decoder.counters
    assert (counters.rows, counters.bad_rows, counters.notes) == (100, 2, 2)
    assert (counters.not_text, counters.partial) == (1, 1)


PAGE = (Path(__file__).parents[2] / "docs" / "text-formats.md").read_text()
LINES = re.findall(r"^\| `(\w+)` \| `([^|`]+)` \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("kind", "line"), LINES[:5])
def test_the_lines_on_the_page(kind: str, line: str) -> None:
    assert told(lines(*[line] * 4)).kind == kind


def test_the_options_and_the_checksum_on_the_page() -> None:
    options = re.findall(r"^--format (\S+)$", PAGE, re.MULTILINE)
    assert len(options) == 5
    for option in options:
        assert str(Format.parse(option)) == option
    (checked,) = re.findall(r"`(\$\S+\*\w\w)`", PAGE)
    assert told(lines(*[checked] * 4)).checksum


def test_a_name_that_is_no_text_is_refused() -> None:
    line = b'{"a\\ud800":1,"b":2}\n'
    with pytest.raises(FormatError, match=r"the name 'a\\ud800' is no text"):
        detect(line * 10)
