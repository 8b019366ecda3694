import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_bridge.formats.errors import shown
from edgelstm_bridge.formats.lines import MAX_LINE_SIZE, LineSplitter, to_text


def split(*chunks: bytes) -> tuple[list[bytes], int]:
    """The lines that are not empty, and how many were too long."""
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [line for line in lines if line], splitter.oversize


def test_all_line_ends() -> None:
    assert split(b"a\nb\rc\r\nd\n\r\n\re") == ([b"a", b"b", b"c", b"d"], 0)


def test_other_separators_of_unicode_end_no_line() -> None:
    line = "a\x0b\x0c\x1c\x85\u2028b".encode()
    assert split(line + b"\n") == ([line], 0)


@given(
    st.lists(st.sampled_from([b"ab", b"\r", b"\n", b"\r\n", b"x" * 3000, b""]), max_size=30),
    st.data(),
)
def test_chunks_do_not_matter(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert split(*chunks) == split(stream)


@pytest.mark.parametrize("chunk", [1, 100, MAX_LINE_SIZE, 100_000])
def test_an_overlong_line_counts_once_and_costs_only_itself(chunk: int) -> None:
    stream = b"a\n" + b"x" * (3 * MAX_LINE_SIZE) + b"\nb\n" + b"y" * MAX_LINE_SIZE + b"\n"
    chunks = [stream[i : i + chunk] for i in range(0, len(stream), chunk)]
    assert split(*chunks) == ([b"a", b"b", b"y" * MAX_LINE_SIZE], 1)


def test_a_line_without_an_end_is_not_kept() -> None:
    splitter = LineSplitter()
    for _ in range(100_000):
        splitter.feed(b"z" * 7)
    assert splitter.oversize == 1
    assert splitter.drop() == b""
    assert splitter.feed(b"z\nok\n") == [b"z", b"ok"]


def test_dropping_the_incomplete_line() -> None:
    splitter = LineSplitter()
    splitter.feed(b"a\nbc")
    assert splitter.drop() == b"bc"
    assert splitter.feed(b"d\n") == [b"d"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("22.5 °C".encode(), "22.5 °C"),
        (b"a\tb", "a\tb"),
        (b"\x1b[0;32mI (31) boot: ok\x1b[0m", "I (31) boot: ok"),
        (b"\x1b]0;title\x07", None),
        (b"\0001.5", None),
        (b"\xb0C", None),
        ("\x9b1m".encode(), None),
        (b"\x7f", None),
    ],
)
def test_what_is_text(line: bytes, text: str | None) -> None:
    assert to_text(line) == text


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        (b"1,2", '"1,2"'),
        (b"\x00\xff\t", '"\\x00\\xff\\t"'),
        (b"x" * 60, '"' + "x" * 60 + '"'),
        (b"x" * 61, '"' + "x" * 57 + '..."'),
    ],
)
def test_lines_in_messages(line: bytes, quoted: str) -> None:
    assert shown(line) == quoted
    assert len(shown(line * 100)) <= 62
