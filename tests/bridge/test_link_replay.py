from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from link_peers import PATIENCE_S, PtyPeer

from edgelstm.errors import RecordingError
from edgelstm_bridge.capture import CaptureWriter, Kind, Record, capturing
from edgelstm_bridge.links import Chunk, Link, LinkEnded, LinkLost, Opener, make_opener
from edgelstm_bridge.links.replay_link import ReplayLink
from edgelstm_bridge.urls import parse_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "field.capture"


def write(path: Path, *records: tuple[Kind, float, bytes]) -> Opener:
    with CaptureWriter(path, "serial:/dev/ttyACM0") as writer:
        for kind, at, data in records:
            writer.write(Record(kind, at, 1.7e9 + at, data))
    return make_opener(parse_url(f"replay:{path}"))


def happenings(opener: Opener) -> list[object]:
    """All that a reader of links sees, which opens them again whenever they are lost."""
    seen: list[object] = []
    while True:
        try:
            with opener() as link:
                seen.append("open")
                while True:
                    seen.append(link.read(0))
        except LinkLost as error:
            seen.append(str(error))
        except LinkEnded:
            return seen


def chunk(at: float, data: bytes) -> Chunk:
    return Chunk(data, at, 1.7e9 + at)


def test_a_replay_gives_the_same_chunks_and_losses(file: Path) -> None:
    opener = write(
        file,
        (Kind.CONNECTED, 1.0, b"/dev/ttyACM0"),
        (Kind.SENT, 1.1, b"start"),
        (Kind.RECEIVED, 1.2, b"one"),
        (Kind.RECEIVED, 1.3, b"two"),
        (Kind.DISCONNECTED, 2.0, b"Lost /dev/ttyACM0."),
        (Kind.CONNECTED, 5.0, b"/dev/ttyACM1"),
        (Kind.RECEIVED, 5.1, b"three"),
        (Kind.CLOSED, 6.0, b""),
    )
    assert happenings(opener) == [
        "open",
        chunk(1.2, b"one"),
        chunk(1.3, b"two"),
        "Lost /dev/ttyACM0.",
        "open",
        chunk(5.1, b"three"),
    ]


def test_what_happened_live_happens_again(file: Path) -> None:
    live: list[object] = []
    with CaptureWriter(file, "serial:/dev/ttyACM0") as writer:
        for number in range(3):
            with PtyPeer() as peer, capturing(peer.open, writer)() as link:
                live.append("open")
                for text in (b"first %d", b"second %d"):
                    peer.send(text % number)
                    live.append(link.read(PATIENCE_S))
                peer.hang_up()
                with pytest.raises(LinkLost) as caught:
                    link.read(PATIENCE_S)
                live.append(str(caught.value))
    assert len(live) == 12
    assert happenings(make_opener(parse_url(f"replay:{file}"))) == live


def test_a_link_that_was_closed_and_opened_again_is_lost_in_between(file: Path) -> None:
    opener = write(
        file,
        (Kind.CONNECTED, 1.0, b"a"),
        (Kind.CLOSED, 2.0, b""),
        (Kind.RECEIVED, 2.5, b"read while it was closed"),
        (Kind.CONNECTED, 3.0, b"a"),
        (Kind.RECEIVED, 3.5, b"x"),
        (Kind.ENDED, 4.0, b"over"),
        (Kind.RECEIVED, 4.5, b"nobody read this"),
    )
    assert happenings(opener) == [
        "open",
        f"{file} (a) was closed, and opened again.",
        "open",
        chunk(3.5, b"x"),
    ]


def test_an_end_that_was_not_written_down_is_a_loss(file: Path) -> None:
    opener = write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.CONNECTED, 2.0, b"b"))
    assert happenings(opener) == ["open", f"{file} (a) was connected anew.", "open"]


def test_how_a_link_ended_is_said_again(file: Path) -> None:
    opener = write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.DISCONNECTED, 2.0, b"gone"),
                   (Kind.CONNECTED, 3.0, b"b"), (Kind.RECEIVED, 4.0, b"x"))  # fmt: skip
    with opener() as link:
        for _ in range(3):
            with pytest.raises(LinkLost, match=r"^gone$"):
                link.read(0)
    with opener() as link:
        assert link.read(0) == chunk(4.0, b"x")
        for _ in range(3):
            with pytest.raises(LinkEnded, match="has come to its end"):
                link.read(0)
    for _ in range(2):
        with pytest.raises(LinkEnded):
            opener()


def test_a_link_that_is_left_early_goes_on_with_the_next_connection(file: Path) -> None:
    opener = write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.RECEIVED, 1.5, b"x"),
                   (Kind.DISCONNECTED, 2.0, b"gone"), (Kind.CONNECTED, 3.0, b"b"))  # fmt: skip
    opener().close()
    with opener() as link:
        assert link.description == f"{file} (b)"


def test_a_capture_that_was_cut_ends_where_it_was_cut(file: Path) -> None:
    opener = write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.RECEIVED, 1.5, b"x"),
                   (Kind.RECEIVED, 1.6, b"y"))  # fmt: skip
    file.write_bytes(file.read_bytes()[:-1])
    assert happenings(opener) == ["open", chunk(1.5, b"x")]


def test_what_was_sent_is_heard_in_order(file: Path) -> None:
    opener = write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.SENT, 1.1, b"ping"),
                   (Kind.RECEIVED, 1.2, b"pong"), (Kind.SENT, 1.3, b"ping"))  # fmt: skip
    heard: list[object] = []
    with opener() as link:
        assert isinstance(link, ReplayLink)
        link.on_sent = lambda data, at: heard.append((data, at))
        heard.append(link.read(0))
        with pytest.raises(LinkEnded):
            link.read(0)
    assert heard == [(b"ping", 1.1), chunk(1.2, b"pong"), (b"ping", 1.3)]


def test_a_replay_can_be_captured_again(file: Path, tmp_path: Path) -> None:
    opener = write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.SENT, 1.1, b"ping"),
                   (Kind.RECEIVED, 1.2, b"pong"), (Kind.ENDED, 1.3, b"over"))  # fmt: skip
    heard: list[object] = []
    with (
        CaptureWriter(tmp_path / "second", "replay:") as writer,
        capturing(opener, writer)() as link,
    ):
        link.on_sent = lambda data, at: heard.append((data, at))
        assert link.on_sent is not None
        assert link.read(0) == chunk(1.2, b"pong")
        with pytest.raises(LinkEnded):
            link.read(0)
    assert heard == [(b"ping", 1.1)]
    again = make_opener(parse_url(f"replay:{tmp_path}/second"))
    assert happenings(again) == ["open", chunk(1.2, b"pong")]


def open_at(file: Path, speed: str) -> Link:
    return make_opener(parse_url(f"replay:{file}?speed={speed}"))()


def test_the_speed_says_when_a_chunk_is_due(file: Path) -> None:
    write(file, (Kind.CONNECTED, 10.0, b"a"), *((Kind.RECEIVED, 11.0 + n, b"x") for n in range(4)))
    began = time.monotonic()
    with open_at(file, "20") as link:
        for n in range(4):
            assert link.read(PATIENCE_S) == chunk(11.0 + n, b"x")
            assert time.monotonic() - began >= (n + 1) / 20
    with open_at(file, "0.001") as link:
        assert link.read(0.05) is None
        assert link.read(0) is None


def test_the_time_between_two_connections_passes_too(file: Path) -> None:
    write(file, (Kind.CONNECTED, 1.0, b"a"), (Kind.DISCONNECTED, 1.0, b"gone"),
          (Kind.CONNECTED, 4.0, b"b"), (Kind.RECEIVED, 4.0, b"x"))  # fmt: skip
    opener = make_opener(parse_url(f"replay:{file}?speed=20"))
    began = time.monotonic()
    with opener() as link, pytest.raises(LinkLost):
        link.read(PATIENCE_S)
    with opener() as link:
        assert link.read(PATIENCE_S) == chunk(4.0, b"x")
    assert time.monotonic() - began >= 3 / 20


def test_closing_ends_a_wait_for_what_is_due_in_an_hour(file: Path) -> None:
    write(file, (Kind.CONNECTED, 0.0, b"a"), (Kind.RECEIVED, 3600.0, b"x"))
    with open_at(file, "1") as link:
        threading.Timer(0.1, link.close).start()
        with pytest.raises(LinkLost, match="is closed"):
            link.read(3600)


def test_a_missing_capture_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    opener = make_opener(parse_url(f"replay:{tmp_path}/none.capture"))
    with pytest.raises(RecordingError, match=r"none\.capture cannot be read: No such file"):
        opener()
