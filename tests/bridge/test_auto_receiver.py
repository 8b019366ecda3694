from __future__ import annotations

from itertools import pairwise

import pytest

from edgelstm.reading import Reading
from edgelstm_bridge.auto_receiver import AutoReceiver
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.events import Event, Gap, Log, Restarted
from edgelstm_bridge.formats import Format, FormatError
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.messages import ChannelInfo, Hello, Sample, Start
from edgelstm_bridge.text_receiver import TextReceiver

WALL = 1_700_000_000.0
HELLO = Hello((ChannelInfo("a"),), sample_period_us=10_000)


def sample(number: int) -> bytes:
    return encode_frame(Sample(number, number, (1.5,)).encode(HELLO))


def lines(count: int, first: int = 0) -> list[bytes]:
    return [f"temp:{20 + i},hum:{i}\r\n".encode() for i in range(first, first + count)]


class Clocked:
    """A receiver that is fed as time passes."""

    def __init__(self, receiver: AutoReceiver | None = None) -> None:
        self.receiver = receiver or AutoReceiver()
        self.now = 10.0
        self.receiver.connected(self.now)

    def feed(self, *chunks: bytes, every: float = 0.1) -> list[Event]:
        events: list[Event] = []
        for chunk in chunks:
            self.now += every
            events += self.receiver.receive(chunk, self.now, WALL)
        return events


def values(events: list[Event]) -> list[tuple[float, ...]]:
    return [event.values for event in events if isinstance(event, Reading)]


def test_a_frame_decides_at_once() -> None:
    clocked = Clocked()
    events = clocked.feed(encode_frame(HELLO.encode()) + sample(0))
    assert values(events) == [(1.5,)]
    assert isinstance(clocked.receiver.chosen, FrameReceiver)
    assert clocked.receiver.channels == HELLO.channels
    assert clocked.receiver.sample_period == 0.01


def test_a_device_that_runs_already_is_asked_for_its_hello() -> None:
    clocked = Clocked()
    assert clocked.feed(sample(7)) == []
    assert isinstance(clocked.receiver.chosen, FrameReceiver)
    assert FrameDecoder().feed(clocked.receiver.due(clocked.now)) == [Start()]


def test_nothing_is_sent_to_a_device_that_sends_text() -> None:
    clocked = Clocked()
    clocked.feed(*lines(5))
    for _ in range(50):
        clocked.now += 0.1
        assert clocked.receiver.due(clocked.now) == b""
    assert clocked.receiver.stop() == b""


def test_a_silent_device_is_started_after_half_a_second() -> None:
    clocked = Clocked()
    assert clocked.receiver.due(10.4) == b""
    assert FrameDecoder().feed(clocked.receiver.due(10.6)) == [Start()]


def test_text_is_told_after_a_second_and_nothing_of_it_is_lost() -> None:
    clocked = Clocked()
    events = clocked.feed(*lines(9))
    assert events == []
    assert clocked.receiver.channels is None
    events = clocked.feed(*lines(5, 9))
    # The first line may have been cut at its front.
    assert values(events) == [(20.0 + i, float(i)) for i in range(1, 14)]
    assert isinstance(clocked.receiver.chosen, TextReceiver)
    assert clocked.receiver.channels == (ChannelInfo("temp"), ChannelInfo("hum"))
    times = [event.timestamp for event in events if isinstance(event, Reading)]
    assert times == sorted(times)
    assert 1.0 < times[-1] - times[0] < 1.4


def test_what_a_board_sends_while_it_boots_does_no_harm() -> None:
    clocked = Clocked()
    garbage = b"\x9e\xf0\x00\x81\xff\xfe\x00\x13" * 20
    clocked.feed(garbage, every=0.01)
    clocked.feed(b"\r\n", *lines(15))
    assert isinstance(clocked.receiver.chosen, TextReceiver)


def test_what_is_no_format_is_said_when_time_is_up() -> None:
    clocked = Clocked()
    clocked.feed(*[b"hello world\n"] * 50)
    assert clocked.receiver.channels is None
    assert 'lines such as "hello world"' in clocked.receiver.missing()
    with pytest.raises(FormatError, match="hello world"):  # or when there is no more
        clocked.receiver.finish(clocked.now, WALL)


def test_however_long_a_board_boots_its_readings_are_told() -> None:
    clocked = Clocked()
    clocked.feed(*[b"wifi: trying to connect ...\n"] * 80)
    events = clocked.feed(*lines(25))
    assert isinstance(clocked.receiver.chosen, TextReceiver)
    assert len(values(events)) >= 12


def test_a_wrong_baud_rate_is_guessed() -> None:
    clocked = Clocked()
    clocked.feed(*[bytes(range(128, 160)) + b"\0"] * 30)
    assert "baud rate" in clocked.receiver.missing()
    clocked = Clocked()
    clocked.feed(*[bytes(range(128, 160)) + b"\n"] * 50)
    assert "baud rate" in clocked.receiver.missing()


def test_too_few_lines_are_waited_for() -> None:
    clocked = Clocked()
    assert clocked.feed(*lines(2), every=5.0) == []
    assert "too few to tell their format" in clocked.receiver.missing()
    assert "--timeout" in clocked.receiver.missing()
    assert len(values(clocked.feed(*lines(3, 2), every=5.0))) == 4


def test_a_reconnection_goes_on_with_the_format_that_was_told() -> None:
    clocked = Clocked()
    clocked.feed(*lines(40))
    clocked.receiver.disconnected()
    clocked.now += 5
    clocked.receiver.connected(clocked.now)
    events = clocked.feed(b"9,hum:1\n", *lines(2))
    # The first whole line comes after the cut one.
    assert values(events) == [(20.0, 0.0), (21.0, 1.0)]
    assert any(isinstance(event, Gap) for event in events)


def text(*chunks: bytes, every: float = 0.1) -> tuple[TextReceiver, list[Event]]:
    receiver = TextReceiver()
    events: list[Event] = []
    for i, chunk in enumerate(chunks):
        events += receiver.receive(chunk, 10 + i * every, WALL)
    return receiver, events


def test_a_pause_in_lines_is_a_gap() -> None:
    receiver = TextReceiver()
    events: list[Event] = []
    now = 10.0
    for i in range(100):
        now += 3.0 if i == 60 else 0.1
        events += receiver.receive(b"%d,%d\n" % (i, i), now, WALL)
    (gap,) = (event for event in events if isinstance(event, Gap))
    assert not gap.exact
    assert 27 <= gap.missing <= 30
    assert receiver.counters.gaps == 1


def test_bursts_and_irregular_lines_are_no_gaps() -> None:
    receiver, events = text(*[b"1,2\n" * 5] * 60, every=0.05)
    assert receiver.counters.gaps == 0
    assert len(values(events)) == 299
    irregular = TextReceiver()
    now = 10.0
    for i in range(200):
        now += 0.1 if i % 3 else 0.9
        irregular.receive(b"%d,2\n" % i, now, WALL)
    assert irregular.counters.gaps <= 3


def test_messages_are_logs_and_a_header_that_comes_again_is_a_restart() -> None:
    _, events = text(b"x,y\n", *[b"1,2\n"] * 15, b"Booting v2...\n", b"x,y\n", *[b"3,4\n"] * 3)
    logs = [event.text for event in events if isinstance(event, Log)]
    assert logs == ["Booting v2..."]
    assert sum(isinstance(event, Restarted) for event in events) == 1
    assert values(events)[-1] == (3.0, 4.0)


def test_a_time_column_dates_the_readings() -> None:
    chunks = [b"millis,v\n"] + [b"%d,%d\n" % (5000 + 20 * i, i) for i in range(200)]
    receiver, events = text(*chunks, every=0.02)
    readings = [event for event in events if isinstance(event, Reading)]
    assert [channel.name for channel in receiver.channels or ()] == ["v"]
    steps = [b.timestamp - a.timestamp for a, b in pairwise(readings[50:])]
    assert all(abs(step - 0.02) < 1e-4 for step in steps)
    assert all(reading.time_error is not None for reading in readings)


def test_lines_that_came_at_once_tell_no_period() -> None:
    receiver = TextReceiver(whole_start=True)
    burst = "".join(f"{n},2\n" for n in range(50)).encode()
    events = receiver.receive(burst, 10.0, WALL)
    for n in range(1, 200):
        events += receiver.receive(f"{n},2\n".encode(), 10.0 + n / 50, WALL)
    assert len(values(events)) == 249
    assert [event for event in events if isinstance(event, Gap)] == []


def test_a_device_that_ends_no_line_is_named() -> None:
    clocked = Clocked()
    clocked.feed(*[b"21.5,33 "] * 30)
    assert "No line has ended" in clocked.receiver.missing()
    assert "newline" in clocked.receiver.missing()


def test_what_begins_with_a_line_does_so_again_after_a_loss() -> None:
    receiver = TextReceiver(whole_start=True)
    for n in range(8):
        receiver.receive(f"{n},2\n".encode(), 10.0 + n / 5, WALL)
    receiver.disconnected()
    assert values(receiver.receive(b"9,2\n", 20.0, WALL)) == [(9.0, 2.0)]


def test_lines_that_are_followed_by_nothing_are_told_too() -> None:
    clocked = Clocked()
    assert clocked.feed(b"".join(lines(20))) == []
    assert clocked.receiver.idle(clocked.now + 0.5) == []
    assert len(values(clocked.receiver.idle(clocked.now + 1.1))) == 19
    assert isinstance(clocked.receiver.chosen, TextReceiver)
    assert clocked.receiver.idle(clocked.now + 2.2) == []


@pytest.mark.parametrize("fmt", [None, "csv"])
def test_a_format_that_was_named_bears_a_board_that_boots(fmt: str | None) -> None:
    receiver = TextReceiver(Format.parse(fmt)) if fmt else AutoReceiver()
    receiver.connected(10.0)
    events: list[Event] = []
    for n in range(80):
        line = b"connecting to the network ...\r\n" if n < 40 else b"%d,2\r\n" % n
        events += receiver.receive(line, 10.0 + n / 20, WALL)
    assert values(events)[-1] == (79.0, 2.0)


def test_a_pause_of_a_device_with_a_clock_is_a_gap() -> None:
    receiver = TextReceiver()
    events: list[Event] = []
    for i in range(200):
        millis = 20 * i + (1000 if i >= 150 else 0)
        now = 10 + millis / 1000
        line = b"millis,v\n" if i == 0 else b"%d,%d\n" % (millis, i)
        events += receiver.receive(line, now, WALL)
    (gap,) = (event for event in events if isinstance(event, Gap))
    assert gap.missing == 50


def test_what_is_no_format_is_not_kept() -> None:
    receiver = TextReceiver()
    for i in range(2000):
        receiver.receive(b"what is this? " * 70 + b"\n", 10 + i * 0.05, WALL)
        assert receiver._early_size < 200_000
    for i in range(2000):  # a line that never ends
        receiver.receive(b"1,2 " * 1000, 110 + i * 0.05, WALL)
        assert receiver._early_size < 1_200_000
