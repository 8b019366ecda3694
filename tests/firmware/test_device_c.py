"""The device's half of the protocol in C, compiled for this machine with sanitizers."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from building import host_program, needs_host_compiler
from host_process import HostProcess
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm_bridge.codec import decode_frame, encode_frame
from edgelstm_bridge.hello import Hello, ValueType
from edgelstm_bridge.messages import (
    Command,
    End,
    Log,
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
    decode_message,
)

pytestmark = needs_host_compiler

PLENTY = 10_000
PERIOD = 1000


class Device:
    """A device with a port whose room and clock the test decides on."""

    def __init__(self, program: HostProcess) -> None:
        self._program = program
        self.boot()

    def boot(
        self,
        value_type: ValueType = ValueType.INT32,
        channels: int = 1,
        *,
        tick_us: int = 1,
        shortest_us: int = 10,
        period_us: int = PERIOD,
        boot_id: int = 1,
    ) -> None:
        """Begin anew: the clock is 0, and there is no room at all."""
        self._line = b""
        self._hello: Hello | None = None
        self._ask("boot", int(value_type), channels, tick_us, shortest_us, period_us, boot_id)

    def _ask(self, *words: object) -> bool:
        written, result = self._program.ask(*words).split()
        if written != "-":
            self._line += bytes.fromhex(written)
        return result == "1"

    def set_clock(self, ticks: int) -> None:
        self._ask("clock", ticks % 2**32)

    def give_room(self, size: int) -> bool:
        """Let that many bytes out; return whether more are to come."""
        return self._ask("room", size)

    def receive(self, *commands: Command) -> None:
        self.receive_bytes(b"".join(encode_frame(command.encode()) for command in commands))

    def receive_bytes(self, data: bytes) -> None:
        self._ask("receive", data)

    def is_due(self) -> bool:
        return self._ask("due")

    def send(self, clock: int, value: int = 0) -> bool:
        """Send a sample with the same value in all channels; return whether it was not dropped."""
        return self._ask("send", clock % 2**32, value)

    def overrun(self, count: int) -> None:
        self._ask("overrun", count)

    def log(self, level: LogLevel) -> bool:
        return self._ask("log", int(level))

    @property
    def state(self) -> dict[str, int]:
        names = ("running", "sample_count", "dropped", "overruns", "bad_commands", "period")
        _, values = self._program.ask("state").split()
        return dict(zip(names, map(int, values.split(":")), strict=True))

    def messages(self, room: int | None = None) -> list[Message]:
        """Give room, all that is wanted without a number, and return what has come since."""
        if room is None:
            assert not self.give_room(PLENTY), "there is always an end"
            self.give_room(0)
        else:
            self.give_room(room)
        *frames, self._line = self._line.split(b"\0")
        messages = []
        for frame in frames:
            message = decode_message(decode_frame(frame), self._hello)
            if isinstance(message, Hello):
                self._hello = message
            messages.append(message)
        return messages


@pytest.fixture(scope="module")
def program() -> Iterator[HostProcess]:
    with HostProcess(host_program("device_host")) as process:
        yield process


@pytest.fixture
def device(program: HostProcess) -> Device:
    return Device(program)


@pytest.fixture
def running(device: Device) -> Device:
    device.receive(Start())
    device.messages()
    return device


def kinds(messages: list[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


# --- which message when ---


def test_a_device_says_hello_once_and_waits(device: Device) -> None:
    (hello,) = device.messages()
    assert isinstance(hello, Hello)
    assert (hello.boot_id, hello.sample_count, hello.sample_period_us) == (1, 0, PERIOD)
    device.set_clock(10 * PERIOD)
    assert not device.is_due()
    assert not device.send(0)
    assert device.messages() == []
    assert device.state["sample_count"] == 0


def test_start_hello_samples_stop(device: Device) -> None:
    device.messages()
    device.receive(Start())
    assert kinds(device.messages()) == ["Hello"]
    for number in range(3):
        assert device.send(clock=100 + number, value=-number)
        assert device.messages() == [Sample(number, 100 + number, (-number,))]
    device.receive(Stop())
    assert device.messages() == [Statistics(3, 0, 0, 0), End(3)]
    assert not device.send(0)
    assert device.messages() == []
    device.receive(Start())
    (hello,) = device.messages()
    assert isinstance(hello, Hello)
    assert hello.sample_count == 3
    assert device.send(7)
    assert device.messages() == [Sample(3, 7, (0.0,))]


def test_a_start_while_running_changes_nothing(running: Device) -> None:
    running.send(1)
    running.set_clock(PERIOD - 1)
    running.receive(Start())
    hello, sample = running.messages()
    assert isinstance(hello, Hello)
    assert hello.sample_count == 0
    assert isinstance(sample, Sample)
    running.set_clock(PERIOD)
    assert running.is_due()


def test_stop_is_answered_each_time(device: Device) -> None:
    device.messages()
    for _ in range(2):
        device.receive(Stop())
        assert device.messages() == [Statistics(0, 0, 0, 0), End(0)]


@pytest.mark.parametrize(
    ("commands", "answers"),
    [
        ([Stop(), Start()], ["Sample", "Statistics", "End", "Hello"]),
        ([Start(), Stop()], ["Hello", "Sample", "Statistics", "End"]),
        ([Stop(), Start(), Stop()], ["Hello", "Sample", "Statistics", "End"]),
        ([Rate(50), Report()], ["Hello", "Statistics", "Sample"]),
        ([Report(), Ping(3)], ["Pong", "Statistics", "Sample"]),
    ],
)
def test_the_order_when_all_had_to_wait(
    running: Device, commands: list[Command], answers: list[str]
) -> None:
    assert running.send(5, 6)
    running.receive(*commands)
    messages = running.messages()
    assert kinds(messages) == answers
    assert Sample(0, 5, (6.0,)) in messages
    for hello in (message for message in messages if isinstance(message, Hello)):
        before = messages.index(Sample(0, 5, (6.0,))) < messages.index(hello)
        assert hello.sample_count == int(before), "the number of the next sample"


def test_no_sample_of_the_next_run_comes_before_the_end_of_this_one(running: Device) -> None:
    running.receive(Stop(), Start())
    assert not running.send(1), "dropped: the end has not gone out yet"
    messages = running.messages()
    assert kinds(messages) == ["Statistics", "End", "Hello"]
    assert messages[:2] == [Statistics(1, 1, 0, 0), End(1)]
    assert running.send(2)
    assert running.messages() == [Sample(1, 2, (0.0,))]


def test_a_pong_has_the_clock_of_when_it_goes_out(running: Device) -> None:
    running.set_clock(5)
    running.receive(Ping(0xFFFF0000))
    running.set_clock(9)
    assert running.messages() == [Pong(0xFFFF0000, 9)]


def test_report(running: Device) -> None:
    running.send(0)
    running.send(0)  # dropped
    running.overrun(4)
    running.receive_bytes(b"\x01\x00")
    running.receive(Report())
    statistics, sample = running.messages()
    assert statistics == Statistics(6, 1, 4, 1)
    assert isinstance(sample, Sample)


def test_a_log_waits_for_its_turn(running: Device) -> None:
    running.send(0)
    assert running.log(LogLevel.WARNING)
    assert not running.log(LogLevel.ERROR), "one at a time"
    sample, log = running.messages()
    assert isinstance(sample, Sample)
    assert log == Log(LogLevel.WARNING, "a line")
    assert running.log(LogLevel.ERROR)
    assert running.messages() == [Log(LogLevel.ERROR, "a line")]


# --- room ---


def test_a_hello_in_pieces_costs_no_sample(running: Device) -> None:
    running.receive(Start())
    assert running.messages(20) == []
    assert running.send(1, 11), "it waits"
    hello, sample = running.messages()
    assert isinstance(hello, Hello)
    assert hello.sample_count == 0
    assert sample == Sample(0, 1, (11.0,))


def test_what_finds_the_place_taken_is_dropped_and_counted(running: Device) -> None:
    assert [running.send(clock, clock) for clock in range(4)] == [True, False, False, False]
    assert running.messages(3) == []
    assert not running.send(4, 4), "the first one is still on its way"
    assert running.messages() == [Sample(0, 0, (0.0,))]
    assert running.send(5, 5)
    assert running.messages() == [Sample(5, 5, (5.0,))]
    assert running.state["dropped"] == 4


@pytest.mark.parametrize("value_type", ValueType)
def test_one_byte_at_a_time(device: Device, value_type: ValueType) -> None:
    """All 64 channels: far more than the port has room for."""
    device.boot(value_type, channels=64)
    device.receive(Start())
    messages = device.messages(1)
    assert device.send(1, -2)
    while device.give_room(1):
        pass
    messages += device.messages(0)
    assert kinds(messages) == ["Hello", "Sample"]
    assert messages[1] == Sample(0, 1, (-2.0,) * 64)


# --- the schedule ---


def test_due_once_per_period(running: Device) -> None:
    found = []
    for clock in range(0, 3 * PERIOD + 1, PERIOD // 4):
        running.set_clock(clock)
        if running.is_due():
            found.append(clock)
            running.send(clock)
    assert found == [PERIOD, 2 * PERIOD, 3 * PERIOD]
    assert running.state["overruns"] == 0


def test_late_is_not_later_next_time(running: Device) -> None:
    for clock in (PERIOD + 900, 2 * PERIOD, 3 * PERIOD + 1):
        running.set_clock(clock)
        assert running.is_due()
        running.send(clock)
        assert not running.is_due()
    assert running.state["sample_count"] == 3


@pytest.mark.parametrize("late", [0, 1, PERIOD - 1])
def test_periods_that_passed_are_overruns(running: Device, late: int) -> None:
    running.set_clock(5 * PERIOD + late)
    assert running.is_due()
    assert running.send(3)
    assert running.messages() == [Sample(4, 3, (0.0,))]
    assert running.state["overruns"] == 4
    assert not running.is_due()
    running.set_clock(6 * PERIOD)
    assert running.is_due()
    assert running.send(4)
    assert running.messages() == [Sample(5, 4, (0.0,))]


def test_due_without_values_is_an_overrun(running: Device) -> None:
    running.set_clock(PERIOD)
    assert running.is_due()
    running.set_clock(2 * PERIOD)
    assert running.is_due()
    running.send(8)
    assert running.messages() == [Sample(1, 8, (0.0,))]
    running.set_clock(3 * PERIOD)
    assert running.is_due()
    running.receive(Stop())
    assert running.messages() == [Statistics(3, 0, 2, 0), End(3)]


def test_the_clock_wraps(device: Device) -> None:
    device.set_clock(-PERIOD // 2)
    device.receive(Start())
    device.messages()
    device.set_clock(PERIOD // 2 - 1)
    assert not device.is_due()
    device.set_clock(PERIOD // 2)
    assert device.is_due()


def test_the_first_sample_is_due_one_period_after_the_hello(device: Device) -> None:
    device.receive(Start())
    device.messages(20)
    device.set_clock(3 * PERIOD)
    assert not device.is_due(), "the line is slower than the samples"
    device.messages()
    assert not device.is_due()
    device.set_clock(4 * PERIOD)
    assert device.is_due()
    assert device.state["overruns"] == 0


@pytest.mark.parametrize(
    ("tick_us", "asked", "made"),
    [
        (1, 5000, 5000),
        (1, 1, 10),
        (1, 10, 10),
        (1, 2**32 - 1, 2**30),
        (4, 9, 12),
        (4, 13, 12),
        (4, 14, 16),
        (4, 2**32 - 1, (2**32 - 1) // 4 * 4),
        (3, 16, 15),
        (3, 17, 18),
        (1000, 1, 1000),
        (1000, 2**32 - 1, 4_294_967_000),
    ],
)
def test_rate(device: Device, tick_us: int, asked: int, made: int) -> None:
    device.boot(tick_us=tick_us)
    device.receive(Start(), Rate(asked))
    (hello,) = device.messages()
    assert isinstance(hello, Hello)
    assert hello.sample_period_us == made
    device.set_clock(made // tick_us - 1)
    assert not device.is_due()
    device.set_clock(made // tick_us)
    assert device.is_due()


# --- everything at once ---

u32 = st.integers(0, 2**32 - 1)
actions = st.one_of(
    st.tuples(st.just("room"), st.one_of(st.integers(1, 30), st.integers(0, 300))),
    st.tuples(st.just("send"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("overrun"), st.integers(1, 5)),
    st.tuples(
        st.just("receive"),
        st.one_of(
            st.sampled_from([Start(), Start(), Stop(), Report()]),
            st.builds(Ping, u32),
            st.builds(Rate, st.integers(1, 10**6)),
        ),
    ),
    st.tuples(st.just("bytes"), st.binary(min_size=1, max_size=9).map(lambda b: b"\0" + b + b"\0")),
    st.tuples(st.just("log"), st.sampled_from(LogLevel)),
)


@settings(deadline=None, max_examples=300)
@given(script=st.lists(actions, max_size=60))
def test_the_laws_hold_whatever_happens(
    program: HostProcess, script: list[tuple[str, Any]]
) -> None:
    device = Device(program)
    given: dict[int, tuple[int, int]] = {}  # number -> clock and value
    pings = 0
    messages: list[Message] = []
    for clock, (action, argument) in enumerate(script):
        device.set_clock(clock)
        match action:
            case "room":
                messages += device.messages(argument)
            case "send":
                if device.state["running"]:
                    given[device.state["sample_count"]] = clock, argument
                device.send(clock, argument)
            case "overrun":
                device.overrun(argument)
            case "receive":
                pings += isinstance(argument, Ping)
                device.receive(argument)
            case "bytes":
                device.receive_bytes(argument)
            case "log":
                device.log(argument)
    device.receive(Report(), Stop())
    messages += device.messages()
    state = device.state

    samples = [message for message in messages if isinstance(message, Sample)]
    for sample in samples:
        clock, value = given[sample.sequence_number]
        assert (sample.device_clock, sample.values) == (clock, (value,))
    # Everything is accounted for.
    lost = state["dropped"] + state["overruns"]
    assert len(samples) + lost == state["sample_count"]
    *_, statistics, end = (message for message in messages if not isinstance(message, Log))
    assert statistics == Statistics(
        state["sample_count"], state["dropped"], state["overruns"], state["bad_commands"]
    )
    assert end == End(state["sample_count"])
    # Numbers grow, and each count says what the next number may be at least.
    next_number = 0
    ended = True
    for message in messages:
        if isinstance(message, Sample):
            assert message.sequence_number >= next_number
            assert not ended, "no sample follows an end until the next hello"
            next_number = message.sequence_number + 1
        elif isinstance(message, Hello | End):
            assert message.sample_count >= next_number
            next_number = message.sample_count
            ended = isinstance(message, End)
    assert isinstance(messages[0], Hello | Pong)
    hellos = [message for message in messages if isinstance(message, Hello)]
    assert hellos[-1].sample_period_us == state["period"]
    assert any(isinstance(message, Pong) for message in messages) == (pings > 0)


def test_fuzz_with_commands_among_random_bytes(device: Device) -> None:
    """What is sent stays whole frames, whatever is received and however little room there is."""
    rng = random.Random(5)  # noqa: S311
    frames = [encode_frame(c.encode()) for c in (Start(), Stop(), Report(), Ping(1), Rate(20))]
    messages: list[Message] = []
    for clock in range(10_000):
        device.set_clock(clock * 10)
        device.receive_bytes(rng.choice([rng.randbytes(rng.randrange(40)), *frames, b"\0"]))
        if device.is_due():
            device.send(clock, clock)
        messages += device.messages(rng.randrange(12))
    assert {Hello, Sample, End, Pong, Statistics} == set(map(type, messages))
    assert device.state["bad_commands"] > 100
