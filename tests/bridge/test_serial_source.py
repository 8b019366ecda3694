import errno
import os
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import NoReturn

import pytest
import serial
from serial.tools import list_ports

from edgelstm.errors import ProtocolError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import Counters
from edgelstm_bridge.messages import ChannelInfo, Hello, Sample, Start, Stop, ValueType
from edgelstm_bridge.serial_source import SerialSource
from edgelstm_bridge.virtual_device import Row, RunReport, VirtualDevice

BEGIN = 1_700_000_000.0
HELLO = Hello(
    channels=(ChannelInfo("temperature", "degC"), ChannelInfo("current", "A", 0.25)),
    sample_period_us=10_000,
    clock_epoch_ms=1,
    device_id="virtual",
    firmware_version="1.2.3",
)


def make_rows(size: int) -> list[Row]:
    return [(BEGIN + i / 100, (i * 0.5, -i * 0.25)) for i in range(size)]


def endless_rows() -> Iterator[Row]:
    return ((BEGIN + i / 100, (0.0, 0.0)) for i in count())


class Running:
    """A run of a virtual device in a thread."""

    def __init__(self, run: Callable[[], RunReport]) -> None:
        self._run = run
        self._report: RunReport | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        self._report = self._run()

    def report(self) -> RunReport:
        self._thread.join(timeout=10)
        assert self._report is not None, "the virtual device did not finish"
        return self._report


@contextmanager
def running(
    rows: list[Row] | Iterator[Row],
    *,
    hello: Hello = HELLO,
    rate: float | None = None,
    corrupt_every: int = 0,
    drop_every: int = 0,
) -> Iterator[tuple[str, Running]]:
    with VirtualDevice(hello, corrupt_every=corrupt_every, drop_every=drop_every) as device:
        yield device.port, Running(lambda: device.run(rows, rate=rate))


@contextmanager
def scripted_device(script: Callable[[int], None]) -> Iterator[str]:
    """Run `script` with the device's end of a pty, once a reader has sent its start."""
    master, slave = os.openpty()
    tty.setraw(slave)
    port = os.ttyname(slave)
    os.close(slave)

    def work() -> None:
        try:
            while True:
                try:
                    if os.read(master, 100):
                        break
                except OSError:  # nobody has opened the port yet
                    time.sleep(0.01)
            script(master)
        finally:
            os.close(master)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield port
    thread.join(timeout=10)
    assert not thread.is_alive()


def sample(number: int) -> bytes:
    return Sample(number, 0, (1.0, 2.0)).encode(HELLO)


def frames_of(*payloads: bytes) -> bytes:
    return b"".join(map(encode_frame, payloads))


def test_everything_arrives_and_nothing_is_lost() -> None:
    rows = make_rows(5000)
    with running(rows) as (port, device), SerialSource(port) as source:
        hello = source.hello
        readings = list(source)
        source.close()
        assert device.report() == RunReport(sent=5000, finished=True)
    assert readings == [
        Reading(timestamp, tuple(values), number) for number, (timestamp, values) in enumerate(rows)
    ]
    assert source.counters == Counters(good=5002, samples=5000)
    assert source.device_sent == 5000
    assert (hello.device_id, hello.firmware_version) == ("virtual", "1.2.3")
    assert hello.channels == HELLO.channels


def test_corrupt_every_is_counted_exactly() -> None:
    with running(make_rows(1005), corrupt_every=10) as (port, _), SerialSource(port) as source:
        readings = list(source)
    assert source.counters == Counters(good=905 + 2, samples=905, bad_crc=100, lost=100)
    assert source.device_sent == 1005
    assert [reading.sequence_number for reading in readings] == [
        number for number in range(1005) if number % 10 != 9
    ]


def test_drop_every_is_counted_exactly() -> None:
    with running(make_rows(1005), drop_every=7) as (port, _), SerialSource(port) as source:
        values = [reading.values[0] for reading in source]
    assert source.counters == Counters(good=862 + 2, samples=862, lost=143)
    assert source.device_sent == 1005
    assert values == [i * 0.5 for i in range(1005) if i % 7 != 6]


def test_the_iteration_can_be_left_and_taken_up_again() -> None:
    with running(make_rows(1000)) as (port, _), SerialSource(port) as source:
        first = [next(source).sequence_number for _ in range(10)]
        rest = [reading.sequence_number for reading in source]
    assert first + rest == list(range(1000))


def test_a_reader_that_leaves_early_ends_the_run() -> None:
    with running(endless_rows()) as (port, device):
        with SerialSource(port) as source:
            assert [next(source).sequence_number for _ in range(10)] == list(range(10))
        report = device.report()
    assert not report.finished
    assert report.sent >= 10
    assert source.device_sent is None


def test_the_next_reader_goes_on_with_the_rows_that_are_left() -> None:
    rows = iter(make_rows(20_000))
    with VirtualDevice(HELLO) as device:
        first = Running(lambda: device.run(rows))
        with SerialSource(device.port) as source:
            next(source)
        sent_before = first.report().sent
        second = Running(lambda: device.run(rows))
        with SerialSource(device.port) as source:
            readings = list(source)
        assert second.report().finished
    assert source.counters.lost == 0
    # Timestamps still fit, though each hello has another epoch.
    assert readings[-1].timestamp == BEGIN + 19_999 / 100
    assert len(readings) <= 20_000 - sent_before


def test_rate_paces_the_samples() -> None:
    with running(make_rows(100), rate=500) as (port, _), SerialSource(port) as source:
        began = time.monotonic()
        assert len(list(source)) == 100
        assert time.monotonic() - began >= 0.19  # 99 gaps of 2 ms


def test_device_time_may_go_backwards() -> None:
    stamps = [BEGIN, BEGIN + 1, BEGIN + 1 - 3600, BEGIN + 2 - 3600]
    rows: list[Row] = [(stamp, (0.0, 0.0)) for stamp in stamps]
    with running(rows) as (port, _), SerialSource(port) as source:
        assert [reading.timestamp for reading in source] == stamps


def test_a_device_without_a_wall_clock_gets_the_time_of_the_host() -> None:
    hello = Hello(channels=HELLO.channels, clock_epoch_ms=0)
    before = time.time()
    with running(make_rows(10), hello=hello) as (port, _), SerialSource(port) as source:
        stamps = [reading.timestamp for reading in source]
    assert len(stamps) == 10
    assert before <= min(stamps) <= max(stamps) <= time.time()


def test_integer_values_arrive_in_physical_units() -> None:
    hello = Hello(channels=(ChannelInfo("t", "degC", 0.5),), value_type=ValueType.INT16)
    rows: list[Row] = [(BEGIN, (21.3,)), (BEGIN, (-4.0,)), (BEGIN, (99_999.0,))]
    with running(rows, hello=hello) as (port, _), SerialSource(port) as source:
        assert [reading.values for reading in source] == [(21.5,), (-4.0,), (16_383.5,)]


def test_a_missing_port_is_named_with_the_ports_present(monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        device = "/dev/ttyACM7"

    monkeypatch.setattr(list_ports, "comports", lambda: [Info()])
    with pytest.raises(SourceError) as caught:
        SerialSource("/dev/no-such-port")
    assert str(caught.value) == (
        "Cannot open /dev/no-such-port: there is no such port (serial ports present: /dev/ttyACM7)."
    )


def test_a_refused_port_mentions_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> NoReturn:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    monkeypatch.setattr(list_ports, "comports", list)
    with pytest.raises(SourceError) as caught:
        SerialSource("/dev/ttyUSB0")
    assert str(caught.value) == (
        "Cannot open /dev/ttyUSB0: permission denied; add your user to the group dialout and "
        "log in again."
    )


def test_a_busy_port_is_refused() -> None:
    with running(endless_rows(), rate=100) as (port, _), SerialSource(port):  # noqa: SIM117
        with pytest.raises(SourceError, match=f"Cannot open {port}: another program"):
            SerialSource(port)


@pytest.mark.parametrize(
    ("port", "reason"),
    [("/dev/null", "it is not a serial port"), (__file__, "it is not"), ("nonsense://x", "")],
)
def test_what_is_no_serial_port_is_refused(port: str, reason: str) -> None:
    with pytest.raises(SourceError, match=f"Cannot open {port}: {reason}"):
        SerialSource(port)


def test_no_hello_says_what_to_check() -> None:
    given_up = threading.Event()
    commands = b""

    def keep_silent(master: int) -> None:
        nonlocal commands
        given_up.wait(timeout=5)
        commands = os.read(master, 100)

    with scripted_device(keep_silent) as port:
        with pytest.raises(
            SourceError, match=rf"No hello from {port} within 1\.3 s: is it the right port"
        ):
            SerialSource(port, hello_timeout=1.3)
        given_up.set()
    start = b"\0" + encode_frame(Start().encode())
    stop = b"\0" + encode_frame(Stop().encode())
    assert commands == start + stop, "start is sent again after 1 s, and stop before leaving"


def test_a_device_that_vanishes_is_an_error() -> None:
    taken = threading.Event()

    def send_two_and_vanish(master: int) -> None:
        os.write(master, frames_of(HELLO.encode(), sample(0), sample(1)))
        taken.wait(timeout=5)  # closing the port throws away what is unread

    with scripted_device(send_two_and_vanish) as port, SerialSource(port) as source:
        assert [next(source).sequence_number for _ in range(2)] == [0, 1]
        taken.set()
        with pytest.raises(SourceError, match=f"Lost {port} .*unplugged") as caught:
            next(source)
        assert isinstance(caught.value.__cause__, OSError)


def test_a_device_that_vanishes_before_its_hello_is_an_error() -> None:
    with (
        scripted_device(lambda _: None) as port,
        pytest.raises(SourceError, match=f"Lost {port}"),
    ):
        SerialSource(port)


def test_a_device_of_another_protocol_version_is_refused() -> None:
    done = threading.Event()

    def speak_version_2(master: int) -> None:
        os.write(master, frames_of(b"\x01\x02 and so on"))
        done.wait(timeout=5)

    with scripted_device(speak_version_2) as port:
        with pytest.raises(ProtocolError, match=f"{port}: the device speaks protocol version 2"):
            SerialSource(port)
        done.set()


def test_a_device_that_changes_its_channels_is_an_error() -> None:
    done = threading.Event()
    restarted = replace(HELLO, clock_epoch_ms=60_000)
    other = replace(HELLO, channels=HELLO.channels[::-1])

    def change(master: int) -> None:
        os.write(master, frames_of(HELLO.encode(), sample(0), restarted.encode(), sample(0)))
        done.wait(timeout=5)
        done.clear()
        os.write(master, frames_of(other.encode()))
        done.wait(timeout=5)

    with scripted_device(change) as port, SerialSource(port) as source:
        # A restart with the same channels goes on, one turn of the sequence later.
        readings = [next(source), next(source)]
        assert [reading.sequence_number for reading in readings] == [0, 65_536]
        assert [reading.timestamp for reading in readings] == [0.001, 60.0]
        done.set()
        with pytest.raises(SourceError, match=f"device on {port} changed its channels"):
            next(source)
        done.set()


def test_closing_twice_is_fine_and_reading_after_it_is_an_error() -> None:
    with running(endless_rows(), rate=100) as (port, _):
        source = SerialSource(port)
        source.close()
        source.close()
        with pytest.raises(SourceError, match="is closed"):
            list(source)


def test_the_loopback_of_pyserial_opens_too() -> None:
    # Exclusive access means nothing there; our own start comes back and is no hello.
    with pytest.raises(SourceError, match="No hello from loop://"):
        SerialSource("loop://", hello_timeout=0.3)
