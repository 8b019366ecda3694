import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count, islice, pairwise
from pathlib import Path

import pytest
import serial

from edgelstm.errors import ConfigurationError, ProtocolError, SourceError
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder, Restart
from edgelstm_bridge.faults import Faults
from edgelstm_bridge.messages import (
    ChannelInfo,
    Command,
    End,
    Hello,
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
)
from edgelstm_bridge.outbox import Fate
from edgelstm_bridge.pacing import Pace
from edgelstm_bridge.pseudo_terminal import PseudoPort
from edgelstm_bridge.virtual_device import Row, RunReport, VirtualDevice

pytestmark = pytest.mark.slow

HELLO = Hello(channels=(ChannelInfo("v"),), device_id="virtual", sample_period_us=10_000)
START = encode_frame(Start().encode())
DEADLINE_S = 30.0

Heard = Message | Restart


def endless_rows() -> Iterator[Row]:
    return ((i / 100, (float(i),)) for i in count())


def rows(number: int) -> Iterator[Row]:
    return islice(endless_rows(), number)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Reader:
    """Reads messages from a port, and comes back when it was unplugged.

    Attributes:
        values: of all samples that came, on every port.
    """

    def __init__(self, device: VirtualDevice) -> None:
        self.device = device
        self.decoder = FrameDecoder()
        self.values: list[int] = []
        self.open()

    def open(self) -> None:
        """Opens the port, as soon as it is there."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.port = serial.Serial(self.device.port, timeout=0.05)
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.005)

    def send(self, command: Command) -> None:
        self.port.write(encode_frame(command.encode()))

    def read(self) -> list[Heard]:
        """Returns what is there, or comes soon. Raises OSError when the port is gone."""
        messages = self.decoder.feed(self.port.read(max(1, self.port.in_waiting)))
        self.values += [int(m.values[0]) for m in messages if isinstance(m, Sample)]
        return messages

    def wait_until_full(self) -> None:
        """Returns once the port takes nothing more."""
        before = -1
        while (waiting := self.port.in_waiting) != before or not waiting:
            before = waiting
            time.sleep(0.3)

    def read_until(self, *kinds: type[Heard]) -> list[Heard]:
        """Returns the messages that come until there was one of each kind."""
        messages: list[Heard] = []
        deadline = time.monotonic() + DEADLINE_S
        while not all(any(isinstance(m, kind) for m in messages) for kind in kinds):
            assert time.monotonic() < deadline, f"no {kinds} after {messages[-3:]}"
            messages += self.read()
        return messages

    def read_until_it_is_gone(self) -> list[Heard]:
        messages: list[Heard] = []
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                messages += self.read()
            except OSError:
                self.port.close()
                self.decoder.break_line()
                return messages
        raise AssertionError("the port is still there")

    def unplug(self) -> list[Heard]:
        """Lets the device be unplugged while this reads on; returns what came meanwhile."""
        thread = threading.Thread(target=self.device.unplug)
        thread.start()
        messages = self.read_until_it_is_gone()
        thread.join(timeout=DEADLINE_S)
        return messages

    def start(self) -> list[Heard]:
        """Starts the device; returns what came with its answer, from the hello on."""
        self.send(Start())
        messages = self.read_until(Hello)
        while isinstance(messages[0], Hello) and messages[0].sample_count == 0:
            # The hello of a device that has just booted, perhaps.
            if sum(isinstance(m, Hello) for m in messages) > 1:
                messages.pop(0)
                break
            if any(isinstance(m, Sample | End) for m in messages):
                break
            messages += self.read()
        return messages

    def is_silent(self) -> bool:
        return not self.read()


@contextmanager
def running(
    device: VirtualDevice, source: Iterable[Row], rate: Pace = None
) -> Iterator[list[RunReport]]:
    """Runs a device in a thread; gives the report of the run once it has ended."""
    reports: list[RunReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(device.run(source, rate=rate)), daemon=True
    )
    thread.start()
    try:
        yield reports
    finally:
        thread.join(timeout=DEADLINE_S)
        assert not thread.is_alive(), "the device did not notice that the reader left"


@contextmanager
def device_and_reader(
    source: Iterable[Row],
    rate: Pace = None,
    faults: Faults | None = None,
    hello: Hello = HELLO,
    *,
    powered: bool = False,
) -> Iterator[tuple[Reader, list[RunReport]]]:
    with (
        VirtualDevice(hello, faults=faults, powered=powered) as device,
        running(device, source, rate) as reports,
    ):
        reader = Reader(device)
        try:
            yield reader, reports
        finally:
            reader.port.close()


def samples_of(messages: Iterable[Heard]) -> list[Sample]:
    return [message for message in messages if isinstance(message, Sample)]


def hellos_of(messages: Iterable[Heard]) -> list[Hello]:
    return [message for message in messages if isinstance(message, Hello)]


# Start, stop and the end


def test_only_its_hello_comes_before_the_first_start() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        (hello,) = reader.read_until(Hello)
        assert isinstance(hello, Hello)
        assert hello.boot_id
        assert replace(hello, boot_id=0) == HELLO
        time.sleep(0.2)
        assert reader.is_silent()
        reader.send(Start())
        messages = reader.read_until(Sample)
        assert messages[0] == hello
        assert isinstance(messages[1], Sample)
        reader.port.close()


def test_stop_pauses_until_start() -> None:
    with device_and_reader(endless_rows(), rate=100) as (reader, reports):
        reader.send(Start())
        first = reader.read_until(Sample)
        reader.send(Stop())
        first += reader.read_until(End)
        samples = samples_of(first)
        assert first[-2:] == [Statistics(len(samples), 0, 0, 0), End(len(samples))]
        time.sleep(0.5)
        assert reader.is_silent()
        reader.send(Start())
        resumed = reader.read_until(Sample)
        assert len(resumed) < 25, "the 50 samples of the pause were made up for"
        assert isinstance(resumed[0], Hello)
        assert resumed[0].sample_count == len(samples)
        assert isinstance(resumed[1], Sample)
        assert resumed[1].sequence_number == len(samples)
        assert resumed[1].values == (samples[-1].values[0] + 1,)
    assert not reports[0].finished
    assert reports[0].sent > len(samples)


def test_a_start_while_running_is_answered_with_hello_only() -> None:
    with device_and_reader(rows(50), rate=200) as (reader, reports):
        reader.send(Start())
        reader.read_until(Sample)
        reader.send(Start())
        messages = reader.read_until(Hello)
        assert hellos_of(messages)[0].sample_count > 0
        if End(50) not in messages:
            messages += reader.read_until(End)
        assert messages[-1] == End(50)
        assert reader.values == list(range(50))
        time.sleep(0.1)
        assert not reports, "the run must wait until the reader has left"
    assert reports == [RunReport(sent=50, finished=True)]
    assert reports[0].arriving == list(range(50))


def test_a_start_after_the_end_is_answered_with_hello_and_end() -> None:
    with device_and_reader(rows(3)) as (reader, _):
        reader.send(Start())
        reader.read_until(End)
        reader.send(Start())
        hello, end = reader.read_until(End)
        assert isinstance(hello, Hello)
        assert hello.sample_count == 3
        assert end == End(3)


def test_commands_are_heard_while_the_reader_takes_nothing() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        reader.send(Start())
        time.sleep(0.2)  # the port is full by now
        reader.send(Stop())
        messages = reader.read_until(End)
        assert reader.is_silent()
        assert messages[-1] == End(len(samples_of(messages)))
        assert reader.decoder.counters.lost == 0


def test_damaged_and_strange_commands_are_counted_and_ignored() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        reader.read_until(Hello)
        malformed_hello = encode_frame(bytes([1, 1, 9]))
        reader.port.write(b"garbage\0" + START[:-2] + b"\0" + malformed_hello)
        reader.send(Rate(0))
        reader.port.write(encode_frame(Log(LogLevel.INFO, "a device says that").encode()))
        reader.send(Report())
        assert reader.read_until(Statistics) == [Statistics(0, 0, 0, 5)]
        reader.send(Start())
        reader.read_until(Hello)


def test_the_run_ends_when_a_reader_stays_but_lingering_is_over() -> None:
    with VirtualDevice(HELLO) as device:
        reader = Reader(device)
        reader.send(Start())
        assert device.run([(0.0, (1.0,))], linger=0.1) == RunReport(sent=1, finished=True)
        assert reader.read_until(End)[-2:] == [Sample(0, 0, (1.0,)), End(1)]
        reader.port.close()


def test_closing_ends_a_run_in_another_thread() -> None:
    reports: list[RunReport] = []
    for reader_present in (False, True):
        device = VirtualDevice(HELLO)
        thread = threading.Thread(
            target=lambda device=device: reports.append(device.run(endless_rows())), daemon=True
        )
        thread.start()
        if reader_present:
            reader = Reader(device)
            reader.send(Start())
            reader.read_until(Sample)
        device.close()
        thread.join(timeout=DEADLINE_S)
        assert not thread.is_alive()
    reader.port.close()
    assert reports[0] == RunReport(sent=0, finished=False)
    assert reports[1].sent > 0


def test_closing_waits_for_the_run_to_let_go_of_the_port() -> None:
    asked, let_go = threading.Event(), threading.Event()

    def slow_rows() -> Iterator[Row]:
        yield (0.0, (0.0,))
        asked.set()
        time.sleep(0.3)
        let_go.set()
        yield (1.0, (0.0,))

    device = VirtualDevice(HELLO)
    threading.Thread(target=device.run, args=[slow_rows()], daemon=True).start()
    reader = Reader(device)
    reader.send(Start())
    assert asked.wait(timeout=DEADLINE_S)
    device.close()
    assert let_go.is_set()
    reader.port.close()


def test_rows_that_a_reader_left_are_no_more_in_the_next_run() -> None:
    source = rows(20_000)
    reports: list[RunReport] = []
    arrived: list[list[Sample]] = []
    with VirtualDevice(HELLO) as device:
        for _ in range(2):
            with running(device, source) as reports_of_run:
                reader = Reader(device)
                reader.send(Start())
                messages = reader.read_until(Sample)
                if arrived:
                    messages += reader.read_until(End)
                arrived.append(samples_of(messages))
                reader.port.close()
            reports += reports_of_run
    first, second = reports
    assert set(first.fates.values()) <= {Fate.END}
    assert second.finished
    assert arrived[1][0].sequence_number == 0
    assert int(arrived[1][0].values[0]) == first.sent + len(first.fates)
    assert first.sent + len(first.fates) + second.sent == 20_000


# What is refused


def test_rows_too_far_apart_for_the_clock_are_refused() -> None:
    hello = Hello(channels=HELLO.channels, clock_tick_us=1)
    with VirtualDevice(hello) as device:
        reader = Reader(device)
        reader.send(Start())
        with pytest.raises(ConfigurationError, match="ticks of 1 us; use longer ticks"):
            device.run([(0.0, (1.0,)), (2148.0, (1.0,))])
        reader.port.close()


@pytest.mark.parametrize(
    ("values", "message"), [((1.0, 2.0), "2 values"), ((1e39,), "does not fit float32")]
)
def test_rows_that_cannot_be_carried_are_refused(values: tuple[float, ...], message: str) -> None:
    with VirtualDevice(HELLO) as device:
        reader = Reader(device)
        reader.send(Start())
        with pytest.raises(ProtocolError, match=message):
            device.run([(0.0, values)])
        reader.port.close()


def test_a_rate_of_zero_is_refused() -> None:
    with VirtualDevice(HELLO) as device, pytest.raises(ConfigurationError, match="not 0"):
        device.run([], rate=0)


def test_hanging_for_no_time_is_refused() -> None:
    with VirtualDevice(HELLO) as device, pytest.raises(ConfigurationError, match="not 0"):
        device.hang(0)


# The link


def test_the_link_leads_to_the_port_and_goes_with_it(tmp_path: Path) -> None:
    link = tmp_path / "sensor"
    link.symlink_to("/dev/left-by-a-crash")
    with VirtualDevice(HELLO, link=link) as device:
        assert link.readlink() == Path(device.port)
    assert list(tmp_path.iterdir()) == []
    device.close()


def test_a_link_that_would_replace_a_file_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "precious"
    link.write_text("data")
    open_before = open_descriptors()
    with pytest.raises(SourceError, match=r"precious exists and is not a symbolic link"):
        VirtualDevice(HELLO, link=link)
    assert link.read_text() == "data"
    assert open_descriptors() == open_before


def test_a_link_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Cannot make the link"):
        VirtualDevice(HELLO, link=tmp_path / "missing" / "sensor")


def test_a_link_that_now_leads_elsewhere_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "sensor"
    with VirtualDevice(HELLO, link=link):
        link.unlink()
        link.symlink_to("/dev/of-another-device")
    assert link.is_symlink()


def test_a_closed_device_leaves_no_descriptor() -> None:
    open_before = open_descriptors()
    with device_and_reader(rows(3)) as (reader, _):
        reader.send(Start())
        reader.read_until(End)
        reader.device.unplug()
        reader.device.plug()
        reader.port.close()
        reader.open()
        reader.send(Start())
        reader.read_until(End)
    assert open_descriptors() == open_before


# Ping, report and rate


def test_a_ping_is_answered_at_any_time() -> None:
    with device_and_reader(rows(3)) as (reader, _):
        reader.send(Ping(0xDEADBEEF))
        messages = reader.read_until(Pong)
        reader.send(Start())
        reader.read_until(End)
        reader.send(Ping(7))
        messages += reader.read_until(Pong)
        pongs = [m for m in messages if isinstance(m, Pong)]
        assert pongs == [Pong(0xDEADBEEF, 0), Pong(7, 20)]


@pytest.mark.parametrize("rate", [100, "recorded"])
def test_at_a_pace_the_clock_runs_on_without_samples(rate: Pace) -> None:
    hello = replace(HELLO, clock_tick_us=1)
    with device_and_reader(endless_rows(), rate, hello=hello) as (reader, _):
        clocks: list[tuple[float, float, int]] = []  # between which times, and what it said

        def ping() -> None:
            before = time.monotonic()
            reader.send(Ping(1))
            (pong,) = (m for m in reader.read_until(Pong) if isinstance(m, Pong))
            clocks.append((before, time.monotonic(), pong.device_clock))

        def watch() -> None:
            for _ in range(3):
                ping()
                time.sleep(0.05)

        watch()
        reader.send(Start())
        watch()
        reader.send(Stop())
        reader.read_until(End)
        watch()
        reader.send(Start())
        watch()
        reader.unplug()
        reader.device.plug()
        reader.open()
        watch()
        reader.send(Start())
        watch()
    for (before, _, earlier), (_, after, later) in pairwise(clocks):
        assert earlier < later, "it never stands still"
        assert later - earlier <= (after - before) * 1e6 + 1000
    elapsed = clocks[-1][0] - clocks[0][1]
    assert clocks[-1][2] - clocks[0][2] >= elapsed * 1e6 - 1000, "it misses no time"


def test_a_clock_slower_than_the_hosts_is_never_before_the_last_sample() -> None:
    hello = replace(HELLO, clock_tick_us=1)
    with device_and_reader(endless_rows(), 20, hello=hello) as (reader, _):
        reader.send(Start())
        messages = reader.read_until(Sample)
        while len(samples_of(messages)) < 4:
            reader.send(Ping(1))
            messages += reader.read_until(Pong)
    # A sample that is due may come after a pong of later: not before one of earlier.
    newest = 0
    pongs = 0
    for message in messages:
        if isinstance(message, Sample):
            newest = message.device_clock
        elif isinstance(message, Pong):
            assert newest <= message.device_clock < newest + 1_000_000
            pongs += 1
    assert pongs > 4, "some pings came between two samples"


def test_rate_changes_the_pace_and_the_times() -> None:
    hello = replace(HELLO, clock_tick_us=1)
    with device_and_reader(endless_rows(), "recorded", hello=hello) as (reader, _):
        reader.send(Start())
        reader.read_until(Sample)
        reader.send(Rate(2_000))
        messages = reader.read_until(Hello)
        assert hellos_of(messages)[-1].sample_period_us == 2_000
        while len(samples_of(messages)) < 50:
            messages += reader.read()
        clocks = [s.device_clock for s in samples_of(messages)][-40:]
        assert {b - a for a, b in pairwise(clocks)} == {2_000}
        assert reader.values == list(range(len(reader.values)))
        # A device that boots anew has forgotten it.
        reader.device.restart()
        restarted = reader.read_until(Restart, Hello)
        assert hellos_of(restarted)[-1].sample_period_us == 10_000
        reader.send(Start())
        start = time.monotonic()
        again = reader.read_until(Sample)
        while len(samples_of(again)) < 30:
            again += reader.read()
        assert time.monotonic() - start > 0.2


def test_at_full_speed_a_rate_changes_nothing() -> None:
    with device_and_reader(rows(10)) as (reader, _):
        reader.read_until(Hello)
        reader.send(Rate(2_000))
        (hello,) = hellos_of(reader.read_until(Hello))
        assert hello.sample_period_us == 10_000
        reader.send(Start())
        reader.read_until(End)


def test_a_wall_clock_has_the_times_of_the_rows() -> None:
    hello = replace(HELLO, clock_epoch_ms=1, clock_tick_us=1000)
    source = ((1_700_000_000 + 0.05 * i, (float(i),)) for i in range(20))
    with device_and_reader(source, 100, hello=hello) as (reader, _):
        messages = reader.start()
        reader.send(Stop())
        messages += reader.read_until(End)
        reader.send(Start())
        messages += reader.read_until(End)
    times = []
    for message in messages:
        if isinstance(message, Hello):
            epoch = message.clock_epoch_ms
        elif isinstance(message, Sample):
            times.append(epoch + message.device_clock - 1_700_000_000_000)
    assert times == [50 * i for i in range(20)]


def test_recorded_gaps_take_their_time() -> None:
    source: list[Row] = [(0.0, (0.0,)), (0.01, (1.0,)), (0.4, (2.0,)), (0.41, (3.0,))]
    with device_and_reader(source, "recorded") as (reader, _):
        reader.send(Start())
        arrived_at = {}
        while len(reader.values) < 4:
            for sample in samples_of(reader.read()):
                arrived_at[sample.values[0]] = time.monotonic()
    assert arrived_at[2.0] - arrived_at[1.0] > 0.3


# Restarts


def test_a_restarted_device_says_so_and_waits() -> None:
    with device_and_reader(endless_rows()) as (reader, reports):
        reader.send(Start())
        before = reader.read_until(Sample)
        reader.wait_until_full()
        reader.device.restart()
        while Restart() not in before:
            before += reader.read()
        # What was in the port when it booted has come all the same.
        assert isinstance(before[-1], Hello)
        assert before[-2] == Restart()
        first = hellos_of(before)[0]
        assert before[-1].boot_id not in (0, first.boot_id)
        assert before[-1].sample_count == 0
        known = list(reader.values)
        time.sleep(0.2)
        assert reader.is_silent()
        reader.send(Start())
        after = reader.read_until(Sample)
        assert after[0] == before[-1]
        assert samples_of(after)[0].sequence_number == 0
        assert reader.decoder.counters.restarts == 1
    (report,) = reports
    assert report.restarts == 1
    gone = sorted(row for row, fate in report.fates.items() if fate is Fate.RESTART)
    assert gone
    assert gone == list(range(known[-1] + 1, reader.values[len(known)]))
    assert reader.values == report.arriving[: len(reader.values)]


def test_boots_are_told_apart_and_a_seed_repeats_them() -> None:
    def boot_ids(seed: int | None) -> list[int]:
        with VirtualDevice(HELLO, faults=Faults(restart=10, seed=seed)) as device:
            with running(device, rows(35)) as reports:
                reader = Reader(device)
                hellos = []
                reader.send(Start())
                while not reports and 34 not in reader.values:
                    messages = reader.read()
                    hellos += hellos_of(messages)
                    if Restart() in messages:
                        reader.send(Start())
                reader.port.close()
            assert reader.values == list(range(35))
            assert reports[0].restarts == 3
            assert reports[0].lost == {}
        return list(dict.fromkeys(hello.boot_id for hello in hellos))

    first = boot_ids(1)
    assert len(first) == 4
    assert 0 not in first
    assert boot_ids(1) == first
    assert not set(boot_ids(2)) & set(first)
    assert not set(boot_ids(None)) & set(boot_ids(None))


# Unplugging


def come_back(reader: Reader) -> list[Heard]:
    """Plugs the cable in again, opens the new port and starts the device."""
    reader.device.plug()
    reader.open()
    return reader.start()


@pytest.mark.parametrize("rate", [None, 500])
def test_a_drained_cable_loses_nothing(rate: Pace) -> None:
    with device_and_reader(rows(1_000 if rate else 60_000), rate) as (reader, reports):
        reader.send(Start())
        messages = reader.read_until(Sample)
        for _ in range(5):
            messages += reader.unplug()
            messages += come_back(reader)
        if not any(isinstance(message, End) for message in messages):
            reader.read_until(End)
        assert reader.decoder.counters.lost == 0
        assert reader.decoder.counters.damaged == 0
        assert reader.decoder.counters.restarts == 0
    (report,) = reports
    assert report.unplugs == 5
    assert report.finished
    assert report.fates == {}
    assert reader.values == report.arriving == list(range(report.sent))


def test_a_pause_without_a_cable_is_not_made_up_for() -> None:
    with device_and_reader(endless_rows(), rate=100) as (reader, _):
        reader.send(Start())
        reader.read_until(Sample)
        reader.unplug()
        time.sleep(0.5)
        messages = come_back(reader)
        while not samples_of(messages):
            messages += reader.read()
        assert len(samples_of(messages)) < 25
        assert reader.decoder.counters.lost == 0


def test_bytes_on_their_way_to_the_reader_are_seen() -> None:
    port = PseudoPort()
    assert port.is_drained(b"."), "nobody is there to take anything"
    with serial.Serial(port.path) as reader:
        for _ in range(300):
            assert port.is_drained(b".")
            assert port.write(b"12345") == 5
            assert not port.is_drained(b".")
            reader.read(5)
    port.unplug()
    assert port.is_drained(b".")
    with pytest.raises(OSError, match="unplugged"):
        port.write(b"12345")


def test_a_full_port_is_drained_when_its_reader_has_all_of_it() -> None:
    port = PseudoPort()
    with serial.Serial(port.path, timeout=0) as reader:
        for _ in range(50):
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    sent += port.write(b"x" * 1000)
            taken = bytearray()
            stop = threading.Event()

            def take(taken: bytearray = taken, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    taken += reader.read(4096)

            thread = threading.Thread(target=take)
            thread.start()
            wait_until(lambda: port.is_drained(b"."))
            stop.set()
            thread.join(timeout=DEADLINE_S)
            assert taken.count(b"x") == sent
            assert taken.count(b".") >= sent // 4096, "what was stuck was not set going"
    port.unplug()


def test_draining_waits_for_the_reader() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        reader.send(Start())
        time.sleep(0.1)
        thread = threading.Thread(target=reader.device.unplug)
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "the reader has not read yet"
        messages = reader.read_until_it_is_gone()
        thread.join(timeout=DEADLINE_S)
        assert len(samples_of(messages)) > 1000
        assert reader.decoder.counters.damaged == 0
        assert hellos_of(come_back(reader))[-1].sample_count == len(samples_of(messages))


@pytest.mark.parametrize("rate", [None, 500])
def test_a_cable_pulled_in_mid_frame_loses_what_was_in_the_port_only(rate: Pace) -> None:
    with device_and_reader(rows(1_000 if rate else 60_000), rate) as (reader, reports):
        reader.send(Start())
        reader.read_until(Sample)
        for _ in range(3):
            reader.device.unplug(drain=False)
            reader.read_until_it_is_gone()
            messages = come_back(reader)
        if not any(isinstance(message, End) for message in messages):
            reader.read_until(End)
        counters = reader.decoder.counters
        assert counters.damaged == 0
        assert counters.lost == reports_sent(reports, reader) - len(reader.values)
    assert len(set(reader.values)) == len(reader.values)
    assert reader.values == sorted(reader.values)
    assert reports[0].fates == {}


def reports_sent(reports: list[RunReport], reader: Reader) -> int:
    """How many samples were sent, once the run has ended."""
    reader.port.close()
    wait_until(lambda: bool(reports))
    return reports[0].sent


def test_the_half_of_a_frame_is_sent_before_the_cable_is_pulled() -> None:
    with device_and_reader(endless_rows(), rate=2) as (reader, _):
        reader.send(Start())
        reader.read_until(Sample)
        data = bytearray()

        def listen() -> None:
            try:
                while True:
                    data.extend(reader.port.read(1))
            except OSError:
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        reader.device.unplug(drain=False)
        thread.join(timeout=DEADLINE_S)
        assert data
        assert b"\0" not in data[-1:]
        reader.port.close()
        messages = come_back(reader)
        while not samples_of(messages):
            messages += reader.read()
        assert reader.values == list(range(len(reader.values)))


def test_a_powered_device_goes_on_and_the_next_hello_tells_what_was_lost() -> None:
    with device_and_reader(endless_rows(), 1000, powered=True) as (reader, reports):
        reader.send(Start())
        reader.read_until(Sample)
        reader.unplug()
        received = len(reader.values)
        time.sleep(0.2)
        reader.device.plug()
        reader.open()
        time.sleep(0.2)  # nobody has started it on this port
        hello = hellos_of(reader.start())[-1]
        assert hello.sample_count > received + 300
        assert reader.decoder.counters.lost == hello.sample_count - received
        reader.send(Report())
        (statistics,) = (m for m in reader.read_until(Statistics) if isinstance(m, Statistics))
        assert statistics.dropped == reader.decoder.counters.lost
    (report,) = reports
    assert report.lost[Fate.UNPLUG] == reader.decoder.counters.lost
    assert reader.values == report.arriving[: len(reader.values)]


def test_a_powered_device_that_runs_out_of_rows_says_so_to_the_next_reader() -> None:
    with device_and_reader(rows(40), 200, powered=True) as (reader, reports):
        reader.send(Start())
        reader.read_until(Sample)
        reader.device.unplug(drain=False)
        time.sleep(0.4)
        reader.read_until_it_is_gone()
        messages = come_back(reader)
        if End(40) not in messages:
            messages += reader.read_until(End)
        assert hellos_of(messages)[-1].sample_count == 40
        assert End(40) in messages
        assert len(reader.values) + reader.decoder.counters.lost == 40
    assert reports[0].finished


def test_a_device_waits_for_the_reader_of_a_new_port_until_it_is_closed() -> None:
    reports: list[RunReport] = []
    with VirtualDevice(HELLO) as device:
        thread = threading.Thread(
            target=lambda: reports.append(device.run(endless_rows())), daemon=True
        )
        thread.start()
        reader = Reader(device)
        reader.send(Start())
        reader.read_until(Sample)
        device.unplug(drain=False)
        reader.port.close()
        device.plug()
        reader.open()  # one that leaves again before it has started anything
        time.sleep(0.2)
        reader.port.close()
        time.sleep(0.3)
        assert thread.is_alive()
    thread.join(timeout=DEADLINE_S)
    assert not reports[0].finished


def test_the_link_goes_and_comes_with_the_port(tmp_path: Path) -> None:
    link = tmp_path / "sensor"
    with VirtualDevice(HELLO, link=link) as device, running(device, rows(3)):
        device.unplug()
        assert not link.is_symlink()
        device.unplug()
        with pytest.raises(serial.SerialException):
            serial.Serial(device.port)
        device.plug()
        device.plug()
        assert link.readlink() == Path(device.port)
        assert [path.name for path in tmp_path.iterdir()] == ["sensor"]
        reader = Reader(device)
        reader.send(Start())
        reader.read_until(End)
        reader.port.close()


def test_the_rows_may_pull_the_cable_themselves() -> None:
    def pulling_rows() -> Iterator[Row]:
        for row in rows(300):
            if row[1] == (100.0,):
                device.unplug()
                device.plug()
            yield row

    with VirtualDevice(HELLO) as device, running(device, pulling_rows()) as reports:
        reader = Reader(device)
        reader.send(Start())
        reader.read_until_it_is_gone()
        reader.open()
        reader.send(Start())
        reader.read_until(End)
        reader.port.close()
    assert reports[0].unplugs == 1
    assert reader.values == list(range(300))


def test_without_a_run_nothing_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.port_device._REQUEST_TIMEOUT_S", 0.1)
    device = VirtualDevice(HELLO)
    with pytest.raises(SourceError, match=r"did not unplug within 0.1 s: is a run under way"):
        device.unplug()
    with pytest.raises(SourceError, match="did not restart"):
        device.restart()
    with running(device, rows(0)) as reports:  # what was given up is not done later
        reader = Reader(device)
        reader.send(Start())
        reader.read_until(End)
        reader.port.close()
    assert reports[0].unplugs == reports[0].restarts == 0
    device.close()
    with pytest.raises(SourceError, match="is closed"):
        device.plug()


# Faults


def read_all(reader: Reader) -> list[Heard]:
    """Reads to the end, starting the device again after each restart and on each new port."""
    messages: list[Heard] = []
    deadline = time.monotonic() + DEADLINE_S
    reader.send(Start())
    while not any(isinstance(message, End) for message in messages):
        assert time.monotonic() < deadline
        try:
            heard = reader.read()
            messages += heard
            if Restart() in heard:
                reader.send(Start())
        except OSError:
            reader.port.close()
            reader.decoder.break_line()
            reader.open()
            reader.send(Start())
    return messages


def test_every_nth_frame_is_lost_or_damaged() -> None:
    faults = Faults(lose=10, damage=7)
    with device_and_reader(rows(1000), faults=faults) as (reader, reports):
        read_all(reader)
    (report,) = reports
    lost = set(range(9, 1000, 10))
    damaged = set(range(6, 1000, 7)) - lost
    assert {row for row, fate in report.fates.items() if fate is Fate.LOSE} == lost
    assert {row for row, fate in report.fates.items() if fate is Fate.DAMAGE} == damaged
    assert report.sent == 1000
    assert report.lost == {"lose": len(lost), "damage": len(damaged)}
    assert reader.values == report.arriving == sorted(set(range(1000)) - lost - damaged)
    assert reader.decoder.counters.bad_crc == len(damaged)
    assert reader.decoder.counters.lost == len(lost | damaged)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop=0.002, seed=3),
        Faults(garble=0.002, seed=2),
        Faults(drop=0.002, garble=0.002, lose=50, damage=70, seed=1),
    ],
)
def test_exactly_the_frames_that_the_noise_spared_arrive(faults: Faults) -> None:
    # More than sequence numbers can tell apart must not be lost in a row, nor the hello.
    with device_and_reader(rows(20_000), faults=faults) as (reader, reports):
        read_all(reader)
        counters = reader.decoder.counters
    (report,) = reports
    assert reader.values == report.arriving
    assert 20_000 - 3_000 < len(reader.values) < 20_000 - 300
    assert counters.lost == 20_000 - len(reader.values)
    assert report.lost["noise"] > 300


def test_a_hanging_device_is_silent_and_goes_on() -> None:
    with device_and_reader(rows(30), faults=Faults(hang=10, hang_seconds=0.3)) as (reader, reports):
        arrived_at: dict[int, float] = {}
        reader.send(Start())
        while len(reader.values) < 30:
            reader.read()
            arrived_at |= {v: time.monotonic() for v in reader.values if v not in arrived_at}
    assert arrived_at[10] - arrived_at[9] > 0.25
    assert arrived_at[20] - arrived_at[19] > 0.25
    assert reports[0].fates == {}


def test_what_is_due_while_it_hangs_is_an_overrun() -> None:
    with device_and_reader(endless_rows(), 1000) as (reader, reports):
        reader.send(Start())
        reader.read_until(Sample)
        reader.device.hang(0.3)
        reader.send(Ping(1))
        messages = reader.read_until(Pong)
        reader.send(Report())
        messages += reader.read_until(Statistics)
        (statistics,) = (m for m in messages if isinstance(m, Statistics))
        assert statistics.overruns >= 250
        if not isinstance(messages[-1], Sample):
            reader.read_until(Sample)  # only the next one shows what is missing before it
        assert reader.decoder.counters.lost == statistics.overruns
    (report,) = reports
    # The reader may leave while a sample is on its way out.
    assert report.lost.get("hang") == statistics.overruns
    assert report.lost.keys() <= {"hang", "end"}
    assert reader.values == report.arriving[: len(reader.values)]


def test_all_faults_together() -> None:
    faults = Faults(
        drop=0.0005,
        garble=0.0005,
        lose=100,
        damage=70,
        hang=1500,
        hang_seconds=0.05,
        restart=2500,
        unplug=1000,
        unplug_seconds=0.05,
        seed=4,
    )
    with device_and_reader(rows(9_999), faults=faults) as (reader, reports):
        # A start or a hello may fall victim to the noise: ask again now and then, as a host does.
        stop = threading.Event()

        def keep_starting() -> None:
            while not stop.wait(0.3):
                with suppress(OSError):
                    reader.send(Start())

        thread = threading.Thread(target=keep_starting)
        thread.start()
        try:
            read_all(reader)
        finally:
            stop.set()
            thread.join(timeout=DEADLINE_S)
    (report,) = reports
    assert report.unplugs == 9
    assert report.restarts == 3
    assert set(report.lost) == {"damage", "lose", "noise"}
    # A boot's samples are only known once its hello has arrived unharmed.
    assert set(reader.values) <= set(report.arriving)
    assert len(reader.values) == len(set(reader.values))
