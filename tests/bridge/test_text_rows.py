"""What the decoder makes of the lines that boards send, as invented but usual snippets."""

import math
from dataclasses import asdict

import pytest

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.formats import Format, FormatError, Note, Row, TextDecoder
from edgelstm_bridge.formats.checksum import with_checksum
from edgelstm_bridge.formats.times import unix_seconds

NAN = math.nan
CSV = "csv:delimiter=comma,header=no,decimal=point,time=no,checksum=no,channels=a+b,columns=a+b"
HEADED = CSV.replace("header=no", "header=yes")
LABEL = "label:columns=temp+hum,channels=temp+hum,time=no,checksum=no"
KEYVALUE = "keyvalue:columns=t+h,channels=t+h,units=C+%25,time=no,checksum=no"
JSON = "json:array=no,columns=a+b,channels=a+b,time=no,checksum=no"
ARRAY = JSON.replace("array=no", "array=yes")


def decoded(fmt: str, stream: bytes) -> tuple[list[Row | Note], dict[str, int]]:
    """What a stream says that is known from its start, and the counters that are not zero."""
    decoder = TextDecoder(Format.parse(fmt), whole_start=True)
    items = decoder.feed(stream)
    return items, {name: n for name, n in asdict(decoder.counters).items() if n}


def same(row: Row | Note, values: tuple[float, ...]) -> bool:
    return isinstance(row, Row) and repr(row.values) == repr(values)


@pytest.mark.parametrize(
    ("fmt", "line", "values"),
    [
        (CSV, "1,2", (1.0, 2.0)),
        (CSV, " +1.5 ,-2e-3 ", (1.5, -0.002)),
        (CSV, ".5,5.", (0.5, 5.0)),
        (CSV, '"1","2"', (1.0, 2.0)),
        (CSV, "1,2,", (1.0, 2.0)),
        (CSV, "1,", (1.0, NAN)),
        (CSV, "nan,-inf", (NAN, NAN)),
        (CSV, "ovf,NULL", (NAN, NAN)),
        (CSV, "1e999,2", (NAN, 2.0)),
        (CSV, "1e308,1e308", (1e308, 1e308)),
        (CSV.replace("comma", "space"), "  1   \t2 ", (1.0, 2.0)),
        (CSV.replace("comma", "tab"), "\t2", (NAN, 2.0)),
        (CSV.replace("comma", "bar"), "1 | 2", (1.0, 2.0)),
        (CSV.replace("comma", "semicolon").replace("point", "comma"), "1,5;-2", (1.5, -2.0)),
        (CSV.replace("comma", "space").replace("point", "comma"), "1,5 2,05", (1.5, 2.05)),
        (CSV.replace("channels=a+b", "channels=b+a"), "1,2", (2.0, 1.0)),
        (CSV.replace("channels=a+b", "channels=b"), "ok,2", (2.0,)),
        (LABEL, "temp:21.5,hum:40", (21.5, 40.0)),
        (LABEL, "temp:21.5\thum:40", (21.5, 40.0)),
        (LABEL, "temp:21.5 hum:40", (21.5, 40.0)),
        (LABEL, "temp: 21.5 hum: 40", (21.5, 40.0)),
        (LABEL, "temp : 21.5 , hum : 40,", (21.5, 40.0)),
        (LABEL, "hum:40,temp:21.5", (21.5, 40.0)),
        (LABEL, "hum:40", (NAN, 40.0)),
        (LABEL, "temp:nan,hum:", (NAN, NAN)),
        (LABEL, "temp:1e999,hum:+.5e1", (NAN, 5.0)),
        (LABEL.replace("temp", "Air temp"), "Air temp:1,hum:2", (1.0, 2.0)),
        (KEYVALUE, "t=21.5 h=40", (21.5, 40.0)),
        (KEYVALUE, "t=21.5C h=40%", (21.5, 40.0)),
        (KEYVALUE, "t = 21.5 C; h = 40 %;", (21.5, 40.0)),
        (KEYVALUE, "h=40%,t=21.5C", (21.5, 40.0)),
        (KEYVALUE, "t=nan h=nan%", (NAN, NAN)),
        (JSON, '{"a":1,"b":-2.5e1}', (1.0, -25.0)),
        (JSON, '{"b":null,"a":true}', (1.0, NAN)),
        (JSON, '{"a":"1.5","b":NaN}', (1.5, NAN)),
        (JSON, '{"a": nan, "b": -inf }', (NAN, NAN)),
        (JSON, '{"a":1e999,"b":' + "9" * 400 + "}", (NAN, NAN)),
        (JSON, '{"a":1}', (1.0, NAN)),
        (JSON.replace("a+b", "acc.x+acc.y.0"), '{"acc":{"x":1,"y":[2]}}', (1.0, 2.0)),
        (ARRAY, "[1, 2]", (1.0, 2.0)),
        (ARRAY, "[1,null]", (1.0, NAN)),
        (ARRAY, "[false,1.5]", (0.0, 1.5)),
    ],
)
def test_rows(fmt: str, line: str, values: tuple[float, ...]) -> None:
    items, counters = decoded(fmt, line.encode() + b"\n")
    assert len(items) == 1
    assert same(items[0], values), items
    assert counters == {"rows": 1}


@pytest.mark.parametrize(
    ("fmt", "line"),
    [
        (CSV, "1,2,3"),
        (CSV, "1"),
        (CSV, "1,2x"),
        (CSV, "1.2.3,4"),
        (CSV, "1_0,2"),
        (CSV, "0x1,2"),
        (CSV.replace("comma", "semicolon").replace("point", "comma"), "1.5;2"),
        (LABEL, "temp:21.5,hum:4x"),
        (LABEL, "temp:21.5,hum:40%"),
        (LABEL, "temp:21.5,temp:22"),
        (LABEL, "temp:1_0,hum:2"),
        (LABEL, "temp:21.5hum:40"),
        (LABEL, "temp:21.5,40"),
        (KEYVALUE, "t=21.5F h=40%"),
        (KEYVALUE, "t=C h=40%"),
        (KEYVALUE, "t=300mK"),
        (JSON, '{"a":1,"b":2'),
        (JSON, '{"a":1,"b":"x"}'),
        (JSON, '{"a":1_0,"b":2}'),
        (JSON, '{"c":1}'),
        (JSON, '{"a":' * 700),
        (JSON, '{"a":nan,"b":' + "[" * 1500),
        (JSON, '{"a":' + "[" * 9 + "]" * 9 + "}"),
        (ARRAY, "[1,2,3]"),
        (ARRAY, "[1,[2]]"),
        (ARRAY, "[1,2"),
    ],
)
def test_bad_rows(fmt: str, line: str) -> None:
    assert decoded(fmt, line.encode() + b"\n") == ([], {"bad_rows": 1})


@pytest.mark.parametrize(
    "line",
    [
        "ets Jun  8 2016 00:22:57",
        "rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)",
        "Booting...",
        "[I][main.cpp] wifi ok",
        "# comment",
        "Connecting, please wait",
        "Guru Meditation Error: Core  1 panic'ed",
    ],
)
@pytest.mark.parametrize("fmt", [CSV, HEADED, LABEL, KEYVALUE, JSON, ARRAY])
def test_messages_become_notes(fmt: str, line: str) -> None:
    assert decoded(fmt, line.encode() + b"\r\n") == ([Note(line)], {"notes": 1})


def test_colours_are_taken_from_notes() -> None:
    assert decoded(CSV, b"\x1b[0;31mE (5) wifi: off\x1b[0m\n")[0] == [Note("E (5) wifi: off")]


@pytest.mark.parametrize("fmt", [CSV, LABEL, KEYVALUE, JSON, ARRAY])
def test_blank_lines_are_nothing(fmt: str) -> None:
    assert decoded(fmt, b"\n\r\n  \n\t\r") == ([], {})


def test_a_blank_line_is_no_row_of_a_single_channel() -> None:
    fmt = CSV.replace("a+b", "a")
    assert decoded(fmt, b"1\n\n \r\n2\n")[1] == {"rows": 2}


@pytest.mark.parametrize("fmt", [CSV, LABEL, KEYVALUE, JSON, ARRAY])
@pytest.mark.parametrize("line", [b"\xff\xfe1,2", b"temp:\xb0", b"1,\x002", b"\x00"])
def test_what_is_not_text(fmt: str, line: bytes) -> None:
    assert decoded(fmt, line + b"\n") == ([], {"not_text": 1})


def test_a_byte_order_mark_is_no_matter() -> None:
    items, counters = decoded(CSV, b"\xef\xbb\xbf1,2\n3,4\n")
    assert items == [Row((1.0, 2.0), None), Row((3.0, 4.0), None)]
    assert counters == {"rows": 2}


class TestFirstLine:
    def decoder(self, fmt: str = HEADED) -> TextDecoder:
        return TextDecoder(Format.parse(fmt))

    @pytest.mark.parametrize(
        ("fmt", "line"),
        [(CSV, b"1,2"), (LABEL, b"temp:1,hum:2"), (KEYVALUE, b"t=1"), (JSON, b'{"a":1}')],
    )
    def test_it_is_dropped(self, fmt: str, line: bytes) -> None:
        decoder = self.decoder(fmt)
        assert decoder.feed(line + b"\n") == []
        assert decoder.counters.partial == 1
        assert len(decoder.feed(line + b"\n")) == 1
        assert (decoder.counters.partial, decoder.counters.rows) == (1, 1)

    def test_the_header_is_taken(self) -> None:
        decoder = self.decoder()
        assert decoder.feed(b"a,b\n1,2\n") == [Note("a,b", True), Row((1.0, 2.0), None)]
        assert decoder.counters.partial == 0

    @pytest.mark.parametrize("end", [b"5,b", b"bb,b", b"23a,b", b",b", b"b"])
    def test_the_end_of_a_header_is_dropped(self, end: bytes) -> None:
        decoder = self.decoder()
        assert decoder.feed(end + b"\n1,2\n") == [Row((1.0, 2.0), None)]
        assert decoder.counters.partial == 1

    def test_another_header_is_refused(self) -> None:
        with pytest.raises(FormatError, match="other columns"):
            self.decoder().feed(b"b,a\n1,2\n")

    def test_nothing_before_a_line_end_was_cut(self) -> None:
        decoder = self.decoder(CSV)
        assert decoder.feed(b"\n1,2\n") == [Row((1.0, 2.0), None)]
        assert decoder.counters.partial == 0

    def test_after_a_break(self) -> None:
        decoder = TextDecoder(Format.parse(HEADED), whole_start=True)
        assert len(decoder.feed(b"1,2\n3,")) == 1
        decoder.break_line()
        assert decoder.feed(b"4\n5,6\n") == [Row((5.0, 6.0), None)]
        assert decoder.counters.partial == 2
        decoder.break_line()
        assert decoder.feed(b"a,b\n7,8\n") == [Note("a,b", True), Row((7.0, 8.0), None)]
        assert decoder.counters.partial == 2


class TestHeaders:
    def test_a_header_in_the_middle_is_a_note(self) -> None:
        items, counters = decoded(HEADED, b"a,b\n1,2\nBoot\na, b\n3,4\n")
        assert items == [
            Note("a,b", True),
            Row((1.0, 2.0), None),
            Note("Boot"),
            Note("a, b", True),
            Row((3.0, 4.0), None),
        ]
        assert counters == {"rows": 2, "notes": 1, "headers": 2}

    def test_units_in_a_header(self) -> None:
        assert decoded(HEADED, b'"a [C]",b(%)\n')[1] == {"headers": 1}

    @pytest.mark.parametrize("header", [b"b,a", b"a,c", b"x,y", b"c,a,b"])
    def test_other_columns(self, header: bytes) -> None:
        decoder = TextDecoder(Format.parse(HEADED), whole_start=True)
        # What came before it is not lost, and nothing after it is read.
        assert decoder.feed(b"1,2\n" + header + b"\n3,4\n") == [Row((1.0, 2.0), None)]
        for _ in range(2):
            with pytest.raises(FormatError, match=r"other columns.*start again"):
                decoder.feed(b"5,6\n")
        assert decoder.counters.rows == 1

    def test_other_columns_come_alone(self) -> None:
        decoder = TextDecoder(Format.parse(HEADED), whole_start=True)
        decoder.feed(b"1,2\n")
        with pytest.raises(FormatError, match='other columns \\("b,a"\\) than before \\(a, b\\)'):
            decoder.feed(b"b,a\n")

    def test_other_columns_between_spaces_share_a_name(self) -> None:
        fmt = HEADED.replace("comma", "space")
        with pytest.raises(FormatError, match="other columns"):
            decoded(fmt, b"b a\n")

    @pytest.mark.parametrize("message", ["wifi ok", "a b", "ready"])
    def test_messages_of_as_many_words_are_no_header(self, message: str) -> None:
        fmt = HEADED.replace("comma", "space").replace("a+b", "x+y")
        assert decoded(fmt, message.encode() + b"\n") == ([Note(message)], {"notes": 1})

    def test_without_a_header_words_are_notes(self) -> None:
        assert decoded(CSV, b"b,a\n") == ([Note("b,a")], {"notes": 1})


class TestLabels:
    def test_unknown_ones_are_counted(self) -> None:
        items, counters = decoded(LABEL, b"temp:1,hum:2,new:3\nnew:x,temp:1\nnew:1\n")
        assert items[0] == Row((1.0, 2.0), None)
        assert same(items[1], (1.0, NAN))
        assert items[2] == Note("new:1")
        assert counters == {"rows": 2, "notes": 1, "unknown_labels": 2}

    def test_known_text_is_ignored(self) -> None:
        fmt = LABEL.replace("columns=temp+hum", "columns=temp+state+hum")
        items, counters = decoded(fmt, b"temp:1,state:OK,hum:2\nhum:2,state:OK,temp:1\n")
        assert items == [Row((1.0, 2.0), None)] * 2
        assert counters == {"rows": 2}

    def test_of_json(self) -> None:
        items, counters = decoded(JSON, b'{"a":1,"b":2,"c":{"d":3,"e":4}}\n')
        assert items == [Row((1.0, 2.0), None)]
        assert counters == {"rows": 1, "unknown_labels": 2}


class TestChecksum:
    fmt = CSV.replace("checksum=no", "checksum=yes")

    def test_a_published_sentence(self) -> None:
        # The example that NMEA 0183 is usually explained with.
        body = b"GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"
        assert with_checksum(body) == b"$" + body + b"*47"

    @pytest.mark.parametrize("line", [b"$1,2*2F", b"$1,2*2f ", b"1,2*2F"])
    def test_good_ones(self, line: bytes) -> None:
        assert decoded(self.fmt, line + b"\r\n") == ([Row((1.0, 2.0), None)], {"rows": 1})

    @pytest.mark.parametrize("line", [b"$1,2*2E", b"$1,3*2F", b"1,2", b"$1,2", b"1,2*2", b"x*00"])
    def test_bad_and_missing_ones(self, line: bytes) -> None:
        assert decoded(self.fmt, line + b"\n") == ([], {"bad_checksum": 1})

    def test_messages_need_none(self) -> None:
        fmt = self.fmt.replace("header=no", "header=yes")
        items, counters = decoded(fmt, b"Booting\na,b\n" + with_checksum(b"a,b") + b"\n")
        assert items == [Note("Booting"), Note("a,b", True), Note("$a,b*2F", True)]
        assert counters == {"notes": 1, "headers": 2}

    def test_of_a_good_line_that_is_no_row(self) -> None:
        stream = with_checksum(b"1,2,3") + b"\n" + with_checksum(b"hello") + b"\n"
        assert decoded(self.fmt, stream)[1] == {"bad_rows": 1, "notes": 1}


class TestTime:
    timed = CSV.replace("columns=a+b", "columns=a+millis+b").replace("time=no", "time=millis")

    def test_a_column(self) -> None:
        items, counters = decoded(self.timed, b"1,100,2\n1,,2\n1,nan,2\n,110,2\n")
        assert items[0] == Row((1.0, 2.0), 100.0)
        assert same(items[1], (NAN, 2.0))
        assert items[1][1] == 110.0
        assert counters == {"rows": 2, "bad_rows": 2}

    def test_iso(self) -> None:
        fmt = self.timed.replace("time=millis", "time=millis,time_unit=iso")
        items, counters = decoded(fmt, b"1,2026-01-02T03:04:05Z,2\n1,12:00,2\n")
        assert items == [Row((1.0, 2.0), 1767323045.0)]
        assert counters["rows"] == 1

    @pytest.mark.parametrize(
        "text", ["2026-01-02 03:04:05", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05.000Z"]
    )
    def test_iso_is_utc_without_an_offset(self, text: str) -> None:
        assert unix_seconds(text) == 1767323045.0

    @pytest.mark.parametrize(
        ("fmt", "good", "late"),
        [
            (LABEL.replace("columns=", "columns=ms+"), "ms:7,temp:1,hum:2", "temp:1,hum:2"),
            (LABEL.replace("columns=", "columns=ms+"), "temp:1,ms: 7 ms,hum:2", "temp:1,ms:nan"),
            (JSON.replace("a+b", "ms+temp+hum"), '{"ms":7,"temp":1,"hum":2}', '{"temp":1}'),
        ],
    )
    def test_of_labels(self, fmt: str, good: str, late: str) -> None:
        fmt = fmt.replace("time=no", "time=ms").replace("channels=ms+", "channels=")
        items, counters = decoded(fmt, f"{good}\n{late}\n".encode())
        assert items == [Row((1.0, 2.0), 7.0)]
        assert counters == {"rows": 1, "bad_rows": 1}


def test_the_last_line_of_a_file() -> None:
    decoder = TextDecoder(Format.parse(CSV), whole_start=True)
    assert decoder.feed(b"1,2\n3,4") == [Row((1.0, 2.0), None)]
    assert decoder.finish() == [Row((3.0, 4.0), None)]
    assert decoder.finish() == []


def test_an_incomplete_format_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="leaves something open"):
        TextDecoder(Format.parse("csv"))


def test_channels() -> None:
    assert TextDecoder(Format.parse(CSV)).channels == ("a", "b")
