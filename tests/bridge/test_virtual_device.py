import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
import serial

from edgelstm.errors import ConfigurationError, ProtocolError, SourceError
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import ChannelInfo, End, Hello, Message, Sample, Start, Stop
from edgelstm_bridge.virtual_device import Row, RunReport, VirtualDevice

HELLO = Hello(channels=(ChannelInfo("v"),), device_id="virtual")
START = encode_frame(Start().encode())
STOP = encode_frame(Stop().encode())


def endless_rows() -> Iterator[Row]:
    return ((i / 100, (float(i),)) for i in count())


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Reader:
    """Reads messages from a port without the manners of a `SerialSource`."""

    def __init__(self, port: str) -> None:
        self.port = serial.Serial(port, timeout=0.05)
        self.decoder = FrameDecoder()

    def send(self, data: bytes) -> None:
        self.port.write(data)

    def read_until(self, kind: type[Message]) -> list[Message]:
        """Return the messages that come until one of `kind`, and what came with that one."""
        messages: list[Message] = []
        deadline = time.monotonic() + 5
        while not any(isinstance(message, kind) for message in messages):
            assert time.monotonic() < deadline, f"no {kind.__name__} after {messages[-3:]}"
            messages += self.decoder.feed(self.port.read(max(1, self.port.in_waiting)))
        return messages

    def is_silent(self) -> bool:
        return not self.port.read(1)


@contextmanager
def device_and_reader(
    rows: Iterator[Row], rate: float | None = None
) -> Iterator[tuple[Reader, list[RunReport]]]:
    reports: list[RunReport] = []
    with VirtualDevice(HELLO) as device:
        thread = threading.Thread(
            target=lambda: reports.append(device.run(rows, rate=rate)), daemon=True
        )
        thread.start()
        reader = Reader(device.port)
        try:
            yield reader, reports
        finally:
            reader.port.close()
            thread.join(timeout=10)
            assert not thread.is_alive(), "the device did not notice that the reader left"


def test_nothing_is_sent_before_the_first_start() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        assert reader.is_silent()
        reader.send(START)
        assert isinstance(reader.read_until(Sample)[0], Hello)


def test_stop_pauses_until_start() -> None:
    with device_and_reader(endless_rows(), rate=100) as (reader, reports):
        reader.send(START)
        first = reader.read_until(Sample)
        reader.send(STOP)
        first += reader.read_until(End)
        samples = [message for message in first if isinstance(message, Sample)]
        assert first[-1] == End(len(samples))
        time.sleep(0.5)
        assert reader.is_silent()
        reader.send(START)
        resumed = reader.read_until(Sample)
        assert len(resumed) < 25, "the 50 samples of the pause were made up for"
        assert isinstance(resumed[0], Hello)
        assert isinstance(resumed[1], Sample)
        assert resumed[1].values == (samples[-1].values[0] + 1,)
    assert not reports[0].finished
    assert reports[0].sent > len(samples)


def test_a_start_while_running_is_answered_with_hello_only() -> None:
    with device_and_reader(islice(endless_rows(), 50), rate=200) as (reader, reports):
        reader.send(START)
        messages = reader.read_until(Sample)
        reader.send(START)
        messages += reader.read_until(End)
        assert sum(isinstance(message, Hello) for message in messages) == 2
        values = [message.values[0] for message in messages if isinstance(message, Sample)]
        assert values == [float(i) for i in range(50)]
        assert messages[-1] == End(50)
        time.sleep(0.1)
        assert not reports, "the run must wait until the reader has left"
    assert reports == [RunReport(sent=50, finished=True)]


def test_commands_are_heard_while_the_reader_takes_nothing() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        reader.send(START)
        time.sleep(0.2)  # the port is full by now
        reader.send(STOP)
        messages = reader.read_until(End)
        assert reader.is_silent()
        end = messages[-1]
        assert isinstance(end, End)
        assert sum(isinstance(message, Sample) for message in messages) == end.samples
        assert reader.decoder.counters.lost == 0


def test_damaged_commands_are_ignored() -> None:
    with device_and_reader(endless_rows()) as (reader, _):
        reader.send(b"garbage\0" + START[:-2] + b"\0")
        assert reader.is_silent()
        reader.send(START)
        reader.read_until(Hello)


def test_the_run_ends_when_a_reader_stays_but_lingering_is_over() -> None:
    with VirtualDevice(HELLO) as device:
        reader = Reader(device.port)
        reader.send(START)
        rows = [(0.0, (1.0,))]
        assert device.run(rows, linger=0.1) == RunReport(sent=1, finished=True)
        assert reader.read_until(End)[1:] == [Sample(0, 0, (1.0,)), End(1)]
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
            reader = Reader(device.port)
            reader.send(START)
            reader.read_until(Sample)
        device.close()
        thread.join(timeout=5)
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
    reader = Reader(device.port)
    reader.send(START)
    assert asked.wait(timeout=5)
    device.close()
    assert let_go.is_set()
    reader.port.close()


def test_rows_too_far_apart_for_the_clock_are_refused() -> None:
    hello = Hello(channels=HELLO.channels, clock_tick_us=1)
    with VirtualDevice(hello) as device:
        reader = Reader(device.port)
        reader.send(START)
        with pytest.raises(ConfigurationError, match="ticks of 1 us; use longer ticks"):
            device.run([(0.0, (1.0,)), (2148.0, (1.0,))])
        reader.port.close()


def test_rows_that_do_not_fit_the_channels_are_refused() -> None:
    with VirtualDevice(HELLO) as device:
        reader = Reader(device.port)
        reader.send(START)
        with pytest.raises(ProtocolError, match="2 values"):
            device.run([(0.0, (1.0, 2.0))])
        reader.port.close()


def test_a_rate_of_zero_is_refused() -> None:
    with VirtualDevice(HELLO) as device, pytest.raises(ConfigurationError, match="not 0"):
        device.run([], rate=0)


def test_the_link_leads_to_the_port_and_goes_with_it(tmp_path: Path) -> None:
    link = tmp_path / "sensor"
    link.symlink_to("/dev/left-by-a-crash")
    with VirtualDevice(HELLO, link=link) as device:
        assert link.readlink() == Path(device.port)
    assert not link.is_symlink()
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
