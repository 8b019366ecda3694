import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice

import pytest
import serial

from edgelstm.errors import ConfigurationError, ProtocolError
from edgelstm_bridge.faults import Faults
from edgelstm_bridge.outbox import Fate, RunReport
from edgelstm_bridge.pacing import Pace, Row
from edgelstm_bridge.virtual_text import TEXT_FORMATS, VirtualTextDevice

pytestmark = pytest.mark.slow

DEADLINE_S = 30.0
CHANNELS = ("flow", "level")


def endless_rows() -> Iterator[Row]:
    return ((i / 100, (float(i), 0.1)) for i in count())


def rows(number: int) -> Iterator[Row]:
    return islice(endless_rows(), number)


def open_port(device: VirtualTextDevice) -> serial.Serial:
    """Opens the port, as soon as it is there."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return serial.Serial(device.port, timeout=DEADLINE_S)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def read_lines(port: serial.Serial, number: int) -> list[bytes]:
    lines = [port.readline() for _ in range(number)]
    assert all(line.endswith(b"\r\n") for line in lines)
    return [line.removesuffix(b"\r\n") for line in lines]


@contextmanager
def running(
    device: VirtualTextDevice, source: Iterator[Row], rate: Pace = None
) -> Iterator[list[RunReport]]:
    reports: list[RunReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(device.run(source, rate=rate)), daemon=True
    )
    with device:
        thread.start()
        yield reports
        thread.join(timeout=DEADLINE_S)
        assert not thread.is_alive(), "the device did not notice that the reader left"


@pytest.mark.parametrize(
    ("text_format", "expected"),
    [
        ("csv", [b"flow,level", b"0.0,0.1", b"1.0,0.1"]),
        ("semicolon", [b"flow;level", b"0.0;0.1", b"1.0;0.1"]),
        ("tab", [b"flow\tlevel", b"0.0\t0.1", b"1.0\t0.1"]),
        ("label", [b"flow:0.0,level:0.1", b"flow:1.0,level:0.1"]),
        ("keyvalue", [b"flow=0.0 level=0.1", b"flow=1.0 level=0.1"]),
        ("json", [b'{"flow":0.0,"level":0.1}', b'{"flow":1.0,"level":0.1}']),
    ],
)
def test_formats(text_format: str, expected: list[bytes]) -> None:
    device = VirtualTextDevice(CHANNELS, text_format, boot_message="Booting...")
    with running(device, rows(2)) as reports, open_port(device) as port:
        assert read_lines(port, len(expected) + 1) == [b"Booting...", *expected]
    assert reports == [RunReport(sent=2, finished=True)]


def test_every_format_is_tried_above() -> None:
    assert set(TEXT_FORMATS) == {"csv", "semicolon", "tab", "label", "keyvalue", "json"}


def test_it_begins_once_a_reader_has_opened_the_port() -> None:
    device = VirtualTextDevice(CHANNELS, "json")
    with running(device, rows(200), rate=500) as reports:
        time.sleep(0.3)  # nothing is lost while nobody is there
        with open_port(device) as port:
            lines = read_lines(port, 200)
    assert [json.loads(line)["flow"] for line in lines] == list(range(200))
    assert reports[0].fates == {}


def test_names_that_would_break_a_line_are_changed() -> None:
    device = VirtualTextDevice(["flow rate [l/s]", 'a,b:"c"'], "label")
    with running(device, rows(1)), open_port(device) as port:
        assert read_lines(port, 1) == [b"flow_rate_l/s_:0.0,a_b_c_:0.1"]


@pytest.mark.parametrize("drain", [True, False])
def test_it_goes_on_where_it_was_when_it_is_plugged_in_again(drain: bool) -> None:
    device = VirtualTextDevice(CHANNELS, "json")
    with running(device, rows(400), rate=400) as reports:
        port = open_port(device)
        before = read_lines(port, 10)
        if drain:
            thread = threading.Thread(target=device.unplug)
            thread.start()
            data = b""
            with suppress(OSError):
                while True:
                    data += port.read(max(1, port.in_waiting))
            thread.join(timeout=DEADLINE_S)
            before += data.split(b"\r\n")[:-1]
        else:
            device.unplug(drain=False)
        port.close()
        device.plug()
        with open_port(device) as port:
            after = [port.readline()]
            while json.loads(after[-1])["flow"] < 399:
                after.append(port.readline())
    values = [json.loads(line)["flow"] for line in [*before, *after]]
    assert values == sorted(set(values))
    if drain:
        assert values == reports[0].arriving == list(range(400))


def test_a_restart_prints_everything_anew() -> None:
    device = VirtualTextDevice(CHANNELS, boot_message="Booting...", faults=Faults(restart=2))
    with running(device, rows(3)) as reports, open_port(device) as port:
        heading = [b"Booting...", b"flow,level"]
        expected = [*heading, b"0.0,0.1", b"1.0,0.1", *heading, b"2.0,0.1"]
        assert read_lines(port, len(expected)) == expected
    assert reports[0].restarts == 1


def test_lost_and_damaged_lines() -> None:
    device = VirtualTextDevice(CHANNELS, "keyvalue", faults=Faults(lose=3, damage=2))
    with running(device, rows(6)) as reports, open_port(device) as port:
        lines = read_lines(port, 4)
    assert lines == [
        b"flow=0.0 level=0.1",
        b"\xe6low=1.0 level=0.1",
        b"\xe6low=3.0 level=0.1",
        b"flow=4.0 level=0.1",
    ]
    expected = {1: Fate.DAMAGE, 2: Fate.LOSE, 3: Fate.DAMAGE, 5: Fate.LOSE}
    assert reports[0].fates == expected


def test_the_lines_that_the_noise_spared_arrive_in_order() -> None:
    faults = Faults(drop=0.002, garble=0.002, seed=1)
    device = VirtualTextDevice(CHANNELS, "json", faults=faults)
    with running(device, rows(3000)) as reports:
        port = open_port(device)
        data = b""
        port.timeout = 0.5
        while chunk := port.read(4096):
            data += chunk
        port.close()
    # A number may have become another one: nobody can tell.
    lines = iter(data.split(b"\n"))
    (report,) = reports
    assert all(f'{{"flow":{i}.0,"level":0.1}}\r'.encode() in lines for i in report.arriving)
    assert 300 < report.lost["noise"] == 3000 - len(report.arriving) < 600


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'xml' is no text format .* csv, semicolon, tab"):
        VirtualTextDevice(CHANNELS, "xml")


def test_names_that_would_become_the_same_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="a_b, a_b; rename one"):
        VirtualTextDevice(["a b", "a_b"])


def test_rows_that_do_not_fit_the_channels_are_refused() -> None:
    with (
        VirtualTextDevice(["flow"]) as device,
        open_port(device),
        pytest.raises(ProtocolError, match="2 values from a device with 1 channels"),
    ):
        device.run(rows(1))
