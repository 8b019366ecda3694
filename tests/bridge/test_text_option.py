import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.formats import Format

COMPLETE = Format(
    "csv",
    delimiter="comma",
    header=True,
    decimal="point",
    columns=("millis", "a", "b"),
    channels=("b", "a"),
    units=("", "%"),
    time="millis",
    time_unit="ms",
    checksum=False,
)


@pytest.mark.parametrize(
    ("text", "fmt"),
    [
        ("csv", Format("csv")),
        ("JSON", Format("json")),
        ("label:", Format("label")),
        ("csv:delimiter=semicolon,decimal=comma", Format("csv", "semicolon", decimal="comma")),
        ("csv:header=no,channels=a+b", Format("csv", header=False, channels=("a", "b"))),
        ("json:array=yes,time=0", Format("json", array=True, time="0")),
        ("keyvalue:time=no,checksum=yes", Format("keyvalue", time="", checksum=True)),
        ("label:time=%6Eo", Format("label", time="no")),
        ("label:channels=a%2Bb,units=m/s%2C", Format("label", channels=("a+b",), units=("m/s,",))),
    ],
)
def test_parsing(text: str, fmt: Format) -> None:
    assert Format.parse(text) == fmt
    assert Format.parse(str(fmt)) == fmt


def test_the_whole_text() -> None:
    assert str(COMPLETE) == (
        "csv:delimiter=comma,header=yes,decimal=point,columns=millis+a+b,channels=b+a,units=+%25,"
        "time=millis,time_unit=ms,checksum=no"
    )
    assert Format.parse(str(COMPLETE)) == COMPLETE


NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" +,=%"), min_size=1, max_size=9
).filter(lambda name: name == name.strip())


@given(st.lists(NAMES, min_size=2, max_size=6, unique=True), NAMES, st.booleans())
def test_any_name_survives(names: list[str], unit: str, timed: bool) -> None:
    fmt = Format(
        "keyvalue",
        columns=tuple(names),
        channels=tuple(names[1:]),
        units=(unit, *[""] * (len(names) - 2)),
        time=names[0] if timed else "",
        checksum=False,
    )
    assert Format.parse(str(fmt)) == fmt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no format; the formats are csv, label, json, keyvalue"),
        ("xml", "'xml' is no format"),
        ("csv:;", "';' is no option of csv"),
        ("csv:delimiter=;", "delimiter is one of comma, semicolon, tab, bar, space, not ';'"),
        ("csv:header=maybe", "header is one of yes, no"),
        ("csv:header", "'header' is no option of csv; they are delimiter, header"),
        ("label:header=no", "is no option of label"),
        ("csv:header=no,header=no", "header is given twice"),
        ("csv:channels=a+a", "two channels are called 'a'"),
        ("csv:channels=a++b", "column 2 has no name"),
        ("csv:channels=" + "+".join(map(str, range(65))), "65 channels, and 64 are the most"),
        ("csv:channels=a+b,units=C", "one unit for each"),
        ("csv:units=C", "one unit for each"),
        ("csv:columns=a+b,channels=c", "'c' is not one of the columns a, b"),
        ("csv:time=", "time needs the name of a column"),
        ("csv:time_unit=h", "time_unit is one of s, ms, us, ns, iso"),
    ],
)
def test_what_is_not_understood(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Format.parse(text)
    assert message in str(caught.value)
    assert repr(text) in str(caught.value)


def test_complete() -> None:
    assert COMPLETE.complete
    assert not Format("csv").complete
    assert not Format("json", columns=("a",), channels=("a",), time="", checksum=False).complete
    assert Format("label", columns=("a",), channels=("a",), time="", checksum=False).complete


def test_units_and_clock() -> None:
    assert COMPLETE.channel_units == ("", "%")
    assert COMPLETE.clock_unit == 1e-3
    fmt = Format("label", channels=("a", "b"), units=("", ""))
    assert fmt.units == ()
    assert fmt.channel_units == ("", "")
    assert fmt.clock_unit is None
