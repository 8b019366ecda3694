import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgelstm.errors import ConfigurationError, ProtocolError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.events import Ended, Event, Gap, Log, Restarted
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.messages import (
    ChannelInfo,
    End,
    Hello,
    LogLevel,
    Message,
    Ping,
    Pong,
    Rate,
    Report,
    Sample,
    Start,
    Statistics,
    Stop,
)
from edgelstm_bridge.messages import Log as LogMessage

HELLO = Hello(
    (ChannelInfo("a", "V"), ChannelInfo("b")),
    sample_period_us=10_000,
    clock_tick_us=1000,
    boot_id=1,
    device_id="pump",
    firmware_version="2.1",
)
WALL = 1_700_000_000.0


def sample(number: int) -> Sample:
    return Sample(number, number * 10, (float(number), -1.0))


class Line:
    """A receiver and the line it listens to; time passes as the test says."""

    def __init__(self, receiver: FrameReceiver | None = None) -> None:
        self.receiver = receiver or FrameReceiver()
        self.now = 100.0
        self.receiver.connected(self.now)

    def say(self, *messages: Hello | Sample | LogMessage | End | Pong | Statistics) -> list[Event]:
        frames = b"".join(
            encode_frame(m.encode(HELLO) if isinstance(m, Sample) else m.encode()) for m in messages
        )
        return self.receiver.receive(frames, self.now, WALL)

    def heard(self, seconds: float = 0.0) -> list[Message]:
        """What the device is sent after so many more seconds."""
        self.now += seconds
        data = self.receiver.due(self.now)
        self.receiver.sent(data, self.now)
        return [m for m in FrameDecoder().feed(data) if not isinstance(m, Sample)]  # type: ignore[misc]

    def started(self) -> "Line":
        assert self.heard() == [Start()]
        self.say(HELLO)
        assert self.heard() == [Start()]
        self.say(HELLO, sample(0))
        return self


def readings(events: list[Event]) -> list[Reading]:
    return [event for event in events if isinstance(event, Reading)]


def test_start_is_repeated_until_the_device_answers() -> None:
    line = Line()
    assert line.heard() == [Start()]
    assert line.heard(0.5) == []
    assert line.heard(0.6) == [Start()]
    assert line.receiver.channels is None


def test_a_device_that_has_just_booted_is_started() -> None:
    """Its hello may be the one that it sends unasked; only one after that was an answer."""
    line = Line()
    assert line.heard() == [Start()]  # lost: it was booting
    line.say(HELLO)
    assert line.heard(0.1) == [Start()]
    line.say(HELLO)
    assert Start() not in line.heard(0.1)


def test_samples_become_readings() -> None:
    line = Line()
    events = line.say(HELLO, sample(0), sample(1))
    assert [r.values for r in readings(events)] == [(0.0, -1.0), (1.0, -1.0)]
    assert [r.sequence_number for r in readings(events)] == [0, 1]
    assert all(abs(r.timestamp - (WALL + line.now)) < 0.1 for r in readings(events))
    assert line.receiver.channels == HELLO.channels
    assert line.receiver.sample_period == 0.01
    assert line.receiver.device == "pump 2.1"
    assert line.receiver.counters.readings == 2


def test_missing_numbers_are_a_gap_before_the_next_reading() -> None:
    line = Line().started()
    line.now += 0.05
    events = line.say(sample(1), sample(5), sample(6))
    kinds = [type(event) for event in events]
    assert kinds == [Reading, Gap, Reading, Reading]
    gap = events[1]
    assert isinstance(gap, Gap)
    assert (gap.missing, gap.exact) == (3, True)
    assert gap.timestamp == readings(events)[1].timestamp
    assert (line.receiver.counters.lost, line.receiver.counters.gaps) == (3, 1)


def test_a_gap_between_two_chunks_is_told_as_well() -> None:
    line = Line().started()
    line.now += 1
    assert [type(e) for e in line.say(sample(90))] == [Gap, Reading]


def test_a_restart_is_told_and_the_device_started_again() -> None:
    line = Line().started()
    line.say(*map(sample, range(1, 100)))
    before = line.say(sample(100))[0]
    line.now += 3
    assert line.say(replace(HELLO, boot_id=2)) == [Restarted()]
    assert line.heard() == [Start()]
    line.say(replace(HELLO, boot_id=2))
    assert Start() not in line.heard()
    gap, after = line.say(sample(0))
    assert isinstance(before, Reading)
    assert isinstance(after, Reading)
    assert isinstance(gap, Gap)
    assert not gap.exact
    assert gap.missing == (after.sequence_number or 0) - (before.sequence_number or 0) - 1
    assert 200 <= gap.missing <= 400  # three seconds at 100 Hz
    assert after.timestamp > before.timestamp
    assert line.receiver.counters.restarts == 1
    # The next gap is counted by numbers again.
    line.now += 0.1
    gap = line.say(sample(5))[0]
    assert isinstance(gap, Gap)
    assert gap.exact


def test_a_link_that_comes_back_goes_on_with_the_exact_loss() -> None:
    line = Line().started()
    line.receiver.receive(encode_frame(sample(1).encode(HELLO))[:-3], line.now, WALL)
    line.receiver.disconnected()
    line.now += 10
    line.receiver.connected(line.now)
    assert line.heard() == [Start()]
    ahead = replace(HELLO, sample_count=100_000)
    line.say(ahead)
    assert line.heard() == [Start()]
    gap, reading = line.say(ahead, sample(100_000))
    assert isinstance(gap, Gap)
    assert (gap.missing, gap.exact) == (99_999, True)
    assert isinstance(reading, Reading)
    assert line.receiver.counters.lost == 99_999
    assert line.receiver.counters.damaged == 0


def test_a_silent_device_is_started_again() -> None:
    line = Line().started()
    while line.heard(0.1):  # pings
        line.say(sample(int(line.now * 10)))
    commands = [command for _ in range(40) for command in line.heard(0.1)]
    assert commands.count(Start()) == 1


def test_a_slow_device_is_not_silent() -> None:
    line = Line()
    slow = replace(HELLO, sample_period_us=60_000_000)
    for _ in range(2):
        line.heard()
        line.say(slow)
    assert Start() not in [command for _ in range(100) for command in line.heard(1)]


def test_pings_come_often_first_and_then_seldom() -> None:
    line = Line().started()
    commands = []
    for i in range(600):
        commands += line.heard(0.1)
        line.say(sample(i + 1))
    pings = [command for command in commands if isinstance(command, Ping)]
    assert len({ping.token for ping in pings}) == len(pings)
    assert 15 <= len(pings) <= 19
    assert 4 <= commands.count(Report()) <= 6


def test_an_unanswered_ping_costs_no_memory() -> None:
    line = Line().started()
    for i in range(1000):
        line.heard(10)
        line.say(sample(i + 1))
    assert len(line.receiver._pings.waiting) <= 10


@pytest.mark.parametrize("answers", [True, False])
def test_pongs_make_the_stated_error_small(answers: bool) -> None:
    line = Line().started()
    reading: Event | None = None
    for i in range(1, 1500):
        line.now += 0.01
        reading = line.say(sample(i))[-1]
        pings = [command for command in line.heard() if isinstance(command, Ping)]
        if pings and answers:
            line.now += 0.001
            line.say(Pong(pings[0].token, i * 10 + 1))
            line.now -= 0.001
    assert isinstance(reading, Reading)
    assert reading.time_error is not None
    assert (reading.time_error < 0.005) == answers
    line.say(Pong(12345, 1))  # never asked for: nothing happens


def test_a_wanted_rate_is_asked_for_once_and_again_after_a_restart() -> None:
    line = Line(FrameReceiver(sample_period=0.02)).started()
    commands = [command for _ in range(20) for command in line.heard(0.01)]
    assert commands.count(Rate(20_000)) == 1
    line.say(replace(HELLO, sample_period_us=20_000, sample_count=1))
    assert line.receiver.sample_period == 0.02
    line.say(replace(HELLO, boot_id=2))
    assert line.heard() == [Start()]
    line.say(replace(HELLO, boot_id=2))
    assert line.heard() == [Rate(20_000)]


def test_logs_statistics_and_the_end_are_told() -> None:
    line = Line().started()
    statistics = Statistics(1, 0, 0, 0)
    events = line.say(LogMessage(LogLevel.ERROR, "hot"), statistics, End(1))
    assert events == [Log(LogLevel.ERROR, "hot"), statistics, Ended()]
    assert line.receiver.statistics == statistics
    assert line.receiver.ended
    assert line.receiver.counters.notes == 1
    assert line.heard(100) == []


def test_what_is_lost_at_the_very_end_is_counted() -> None:
    line = Line().started()
    line.say(End(11))
    assert line.receiver.counters.lost == 10


def test_stop_is_a_stop() -> None:
    assert FrameDecoder().feed(Line().receiver.stop()) == [Stop()]


def test_other_channels_are_an_error() -> None:
    line = Line().started()
    with pytest.raises(SourceError, match="changed its channels"):
        line.say(replace(HELLO, channels=(ChannelInfo("other"),)))


def test_another_version_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="version 9"):
        Line().receiver.receive(encode_frame(b"\x01\x09"), 0.0, WALL)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (lambda: b"", "right port"),
        (lambda: b"\x01\x02garbage\x00\x07\x07\x00", "baud rate"),
        (lambda: encode_frame(sample(0).encode(HELLO)), "hear the start"),
        (lambda: encode_frame(HELLO.encode()[:-1]), "cut short.*mend the firmware"),
    ],
)
def test_what_is_missing_is_said(data: Callable[[], bytes], hint: str) -> None:
    line = Line()
    line.receiver.receive(data(), line.now, WALL)
    assert re.search(hint, line.receiver.missing())


@pytest.mark.parametrize("period", [0.0, 1e-7, 4295.0, float("inf"), float("nan")])
def test_a_period_that_the_protocol_cannot_ask_for_is_refused(period: float) -> None:
    with pytest.raises(ConfigurationError, match="No device can be asked for a reading every"):
        FrameReceiver(period)
