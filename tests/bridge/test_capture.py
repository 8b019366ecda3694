from __future__ import annotations

import io
import json
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_peers import PtyPeer, read_all, wait_until

import edgelstm
from edgelstm.errors import RecordingError, SourceError
from edgelstm_bridge.capture import (
    MAGIC,
    MAX_DATA_SIZE,
    CaptureReader,
    CaptureWriter,
    CapturingLink,
    Kind,
    Record,
    capturing,
    encode_header,
    encode_record,
)
from edgelstm_bridge.links import Chunk, Link, LinkEnded, LinkLost

RECORDS = st.builds(
    Record,
    st.sampled_from(Kind),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.binary(max_size=50),
)
URL = "serial:/dev/ttyACM0?baud=9600"
EXAMPLE = [
    Record(Kind.CONNECTED, 1.0, 1.7e9, b"/dev/ttyACM0"),
    Record(Kind.SENT, 1.1, 1.7e9, b"\0start"),
    Record(Kind.RECEIVED, 1.25, 1.7e9, bytes(range(256))),
    Record(Kind.RECEIVED, 1.5, 1.7e9 + 1, b"x"),
    Record(Kind.DISCONNECTED, 2.0, 1.7e9, "dévice gone".encode()),
]


def read(path: Path, content: bytes) -> tuple[list[Record], bool]:
    path.write_bytes(content)
    with CaptureReader(path) as reader:
        return list(reader), reader.is_cut


def record_all(path: Path) -> list[Record]:
    with CaptureReader(path) as reader:
        return list(reader)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capture") / "field.capture"


@given(records=st.lists(RECORDS, max_size=8))
def test_records_read_back_as_they_were_written(file: Path, records: list[Record]) -> None:
    with CaptureWriter(file, URL) as writer:
        for record in records:
            writer.write(record)
    with CaptureReader(file) as reader:
        assert list(reader) == records
        assert not reader.is_cut
        assert reader.header["url"] == URL
        assert reader.header["edgelstm"] == edgelstm.__version__


@given(data=st.data())
def test_a_reader_goes_on_where_another_one_left(file: Path, data: st.DataObject) -> None:
    with CaptureWriter(file, URL) as writer:
        for record in EXAMPLE:
            writer.write(record)
    count = data.draw(st.integers(0, len(EXAMPLE)))
    with CaptureReader(file) as reader:
        first = [next(reader) for _ in range(count)]
        offset = reader.offset
    with CaptureReader(file, offset) as reader:
        assert first + list(reader) == EXAMPLE


def test_a_file_cut_anywhere_reads_up_to_its_last_whole_record(file: Path) -> None:
    header = encode_header(URL)
    encoded = [encode_record(record) for record in EXAMPLE]
    content = header + b"".join(encoded)
    ends = [len(header)]
    for record in encoded:
        ends.append(ends[-1] + len(record))
    for size in range(len(content) + 1):
        if size < len(header):
            with pytest.raises(RecordingError):
                read(file, content[:size])
            continue
        whole = sum(end <= size for end in ends) - 1
        assert read(file, content[:size]) == (EXAMPLE[:whole], size not in ends), size


def test_a_damaged_record_ends_the_reading(file: Path) -> None:
    header, encoded = encode_header(URL), [encode_record(record) for record in EXAMPLE]
    front = header + b"".join(encoded[:2])
    for place in range(len(encoded[2])):
        damaged = bytearray(encoded[2])
        damaged[place] ^= 0x40
        assert read(file, front + bytes(damaged) + encoded[3]) == (EXAMPLE[:2], True), place


def test_zeros_that_a_power_loss_left_are_no_records(file: Path) -> None:
    content = encode_header(URL) + encode_record(EXAMPLE[0]) + bytes(4096)
    assert read(file, content) == (EXAMPLE[:1], True)


def test_a_long_chunk_is_kept_in_parts(file: Path) -> None:
    long = bytes(range(250)) * (MAX_DATA_SIZE // 100)
    with CaptureWriter(file, URL) as writer:
        writer.write(Record(Kind.RECEIVED, 1.0, 2.0, long))
    records = record_all(file)
    assert len(records) == 3
    assert b"".join(record.data for record in records) == long
    assert {(record.at, record.wall_offset) for record in records} == {(1.0, 2.0)}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is no raw capture: make one with `edgelstm record --raw`"),
        (b"timestamp,a\n1,2\n", "is no raw capture"),
        (MAGIC[:-1] + b"\x02", "is a capture of version 2 and this edgelstm reads version 1"),
        (MAGIC, "cut or damaged within its header"),
        (MAGIC + b"\xff\xff\xff\xff", "cut or damaged within its header"),
        (MAGIC + b"\x02\0\0\0[]", "cut or damaged within its header"),
        (MAGIC + b"\x02\0\0\0\xff{", "cut or damaged within its header"),
    ],
)
def test_what_is_no_capture_is_refused(file: Path, content: bytes, part: str) -> None:
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=part):
        CaptureReader(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(RecordingError, match=r"cannot be read: \w"):
            CaptureReader(path)
    with pytest.raises(SourceError, match="cannot be written: Is a directory"):
        CaptureWriter(tmp_path, URL)


def test_a_full_disk_is_an_error_with_the_name_of_the_file() -> None:
    path = Path("/dev/full")
    with pytest.raises(SourceError, match="The capture /dev/full cannot be written: No space left"):
        CaptureWriter(path, URL)


def test_what_was_written_is_in_the_file_soon(file: Path) -> None:
    with CaptureWriter(file, URL) as writer:
        writer.write(EXAMPLE[0])

        def is_there() -> bool:
            writer.flush_when_due()
            return record_all(file) == EXAMPLE[:1]

        wait_until(is_there)


def test_what_happened_on_a_silent_link_is_in_the_file_soon(file: Path) -> None:
    with (
        CaptureWriter(file, URL) as writer,
        PtyPeer() as peer,
        capturing(peer.open, writer)() as link,
    ):

        def is_there() -> bool:
            assert link.read(0.01) is None
            return bool(record_all(file))

        wait_until(is_there)


def test_writing_after_closing_does_nothing(file: Path) -> None:
    writer = CaptureWriter(file, URL)
    writer.close()
    writer.close()
    writer.write(EXAMPLE[0])
    writer.flush_when_due()
    assert record_all(file) == []


def test_threads_write_whole_records(file: Path) -> None:
    def write(n: int) -> None:
        for i in range(300):
            writer.write(Record(Kind.SENT, n, i, bytes([n]) * 100))

    with CaptureWriter(file, URL) as writer:
        threads = [threading.Thread(target=write, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = record_all(file)
    for n in range(4):
        assert [record.wall_offset for record in records if record.at == n] == list(range(300))


def test_a_captured_link_writes_down_all_that_happens(file: Path) -> None:
    with CaptureWriter(file, URL) as writer, PtyPeer() as peer:
        with capturing(peer.open, writer)() as link:
            before = time.monotonic()
            link.write(b"start")
            peer.send(b"answer")
            assert read_all(link, 6) == b"answer"
            assert link.read(0.01) is None
            after = time.monotonic()
        with capturing(peer.open, writer)() as link:
            peer.hang_up()
            with pytest.raises(LinkLost) as caught:
                link.read(10)
    records = record_all(file)
    path = peer.path.encode()
    assert [(record.kind, record.data) for record in records] == [
        (Kind.CONNECTED, path),
        (Kind.SENT, b"start"),
        (Kind.RECEIVED, b"answer"),
        (Kind.CLOSED, b""),
        (Kind.CONNECTED, path),
        (Kind.DISCONNECTED, str(caught.value).encode()),
    ]
    assert all(before <= record.at <= after for record in records[1:3])
    assert abs(records[2].at + records[2].wall_offset - time.time()) < 60


class Ending(Link):
    """Gives one chunk, and ends."""

    description = "ending"

    def __init__(self) -> None:
        self._chunks = [Chunk(b"last", 1.0, 2.0)]

    def read(self, timeout: float) -> Chunk | None:  # noqa: ARG002
        if not self._chunks:
            raise LinkEnded("over")
        return self._chunks.pop()

    def close(self) -> None:
        """Nothing is open."""


def test_a_captured_link_keeps_the_times_and_the_end_of_its_link(file: Path) -> None:
    with CaptureWriter(file, URL) as writer, CapturingLink(Ending(), writer) as link:
        assert link.read(0) == Chunk(b"last", 1.0, 2.0)
        for _ in range(2):
            with pytest.raises(LinkEnded):
                link.read(0)
    assert [tuple(record) for record in record_all(file)[1:]] == [
        (Kind.RECEIVED, 1.0, 2.0, b"last"),
        (Kind.ENDED, *record_all(file)[2][1:3], b"over"),
    ]


def test_what_the_writer_cannot_write_still_closes_the_link(file: Path) -> None:
    writer = CaptureWriter(file, URL)
    with PtyPeer() as peer:
        inner = peer.open()
        link = CapturingLink(inner, writer)
        writer._file.close()
        writer._file = io.FileIO("/dev/full", "wb")  # type: ignore[assignment]
        with pytest.raises(SourceError, match="No space left"):
            link.close()
        with pytest.raises(LinkLost, match="is closed"):
            inner.read(0)
    writer.close()


def test_the_header_is_json_that_other_tools_read() -> None:
    header = encode_header(URL)
    size = int.from_bytes(header[8:12], "little")
    assert len(header) == 12 + size
    content = json.loads(header[12:])
    assert set(content) == {"url", "time", "edgelstm"}
    assert abs(content["time"] - time.time()) < 60


def test_reading_takes_little_memory(file: Path) -> None:
    with CaptureWriter(file, URL) as writer:
        for _ in range(300):
            writer.write(Record(Kind.RECEIVED, 0.0, 0.0, bytes(100_000)))
    tracemalloc.start()
    try:
        with CaptureReader(file) as reader:
            assert sum(len(record.data) for record in reader) == 30_000_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
