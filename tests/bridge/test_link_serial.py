from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import threading
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import pytest
import serial
from link_peers import PATIENCE_S, PtyPeer, linked, read_all, read_to_end
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from edgelstm.errors import SourceError
from edgelstm_bridge.links import Link, LinkLost, make_opener, serial_link
from edgelstm_bridge.urls import parse_url

TIOCGEXCL = 0x80045440  # Linux: whether TIOCEXCL is on


def open_link(text: str) -> Link:
    return make_opener(parse_url(text))()


def port(device: str, *usb: int, serial_number: str | None = None) -> ListPortInfo:
    info = ListPortInfo(device)
    if usb:
        info.vid, info.pid = usb
    info.serial_number = serial_number
    return info


def there_are(monkeypatch: pytest.MonkeyPatch, *ports: ListPortInfo) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: list(ports))


def refused(text: str) -> str:
    with pytest.raises(SourceError) as caught:
        open_link(text)
    assert not isinstance(caught.value, LinkLost)
    return str(caught.value)


def test_a_missing_port_is_named_with_the_ports_present(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(monkeypatch, port("/dev/ttyUSB1"), port("/dev/ttyACM7"))
    assert refused("/dev/no-such-port") == (
        "Cannot open /dev/no-such-port: there is no such port "
        "(serial ports present: /dev/ttyACM7, /dev/ttyUSB1)."
    )


def test_a_refused_port_says_who_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> NoReturn:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial.Serial, "open", refuse)
    there_are(monkeypatch)
    assert refused("/dev/ttyUSB0") == (
        "Cannot open /dev/ttyUSB0: permission denied; `edgelstm ports` says how to mend that."
    )


def test_a_busy_port_is_refused_until_it_is_free() -> None:
    with PtyPeer() as peer:
        with peer.open():
            assert f"Cannot open {peer.path}: another program is using it" in refused(peer.url)
        with peer.open():
            pass


@pytest.mark.parametrize("path", ["/dev/null", __file__, "/proc/self"])
def test_what_is_no_serial_port_is_refused(path: str) -> None:
    assert refused(path).startswith(f"Cannot open {path}: ")


def test_what_is_no_terminal_is_called_so() -> None:
    for path in ("/dev/null", __file__):
        assert "it is not a serial port" in refused(path)


def test_a_device_that_vanishes_is_lost() -> None:
    with PtyPeer() as peer, peer.open() as link:
        peer.hang_up()
        with pytest.raises(LinkLost, match=f"^Lost {peer.path}.*: was the device unplugged\\?$"):
            link.read(PATIENCE_S)
        with pytest.raises(LinkLost, match=f"Lost {peer.path}"):
            link.read(0)
        with pytest.raises(LinkLost, match=f"Lost {peer.path}"):
            link.write(b"x")


def test_a_device_that_vanishes_ends_a_read_that_waits() -> None:
    with PtyPeer() as peer, peer.open() as link:
        threading.Timer(0.1, peer.hang_up).start()
        _, end = read_to_end(link)
    assert isinstance(end, LinkLost)


def test_a_port_that_moves_is_found_again_by_its_name(tmp_path: Path) -> None:
    name = tmp_path / "usb-Arduino"
    opener = make_opener(parse_url(f"serial:{name}"))
    for _ in range(3):
        with PtyPeer() as peer:
            name.symlink_to(peer.path)
            with opener() as link:
                peer.send(b"here")
                assert read_all(link, 4) == b"here"
                assert link.description == str(name)
            name.unlink()


def test_a_usb_device_is_found_again_whatever_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    opener = make_opener(parse_url("serial:?vid=2341&pid=0043&serial=abc"))
    for _ in range(3):
        with PtyPeer() as peer:
            there_are(
                monkeypatch,
                port("/dev/ttyS0"),
                port(peer.path, 0x2341, 0x43, serial_number="ABC"),
                port("/dev/other", 0x2341, 0x43, serial_number="ABCD"),
                port("/dev/another", 0x2341, 0x42, serial_number="ABC"),
            )
            with opener() as link:
                peer.send(b"here")
                assert read_all(link, 4) == b"here"
                assert link.description == peer.path


def test_a_usb_device_that_is_not_there_lists_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(monkeypatch, port("/dev/ttyUSB0", 0x1A86, 0x7523), port("/dev/ttyS0"))
    assert refused("serial:?vid=2341") == (
        "No serial port has vid=2341: is the device plugged in? "
        "(serial ports present: /dev/ttyS0, /dev/ttyUSB0 (vid=1a86&pid=7523))"
    )
    there_are(monkeypatch)
    assert refused("serial:?pid=43").endswith("(serial ports present: none)")


def test_usb_devices_that_are_alike_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(
        monkeypatch,
        port("/dev/ttyACM1", 0x2341, 0x43, serial_number="B"),
        port("/dev/ttyACM0", 0x2341, 0x43, serial_number="A"),
    )
    assert refused("serial:?vid=2341&pid=43") == (
        "More than one serial port has vid=2341&pid=0043: /dev/ttyACM0 "
        "(vid=2341&pid=0043&serial=A), /dev/ttyACM1 (vid=2341&pid=0043&serial=B); choose one by "
        "its serial number or its path."
    )


def test_the_line_is_raw_at_the_baud_rate_and_keeps_its_modem_lines() -> None:
    with PtyPeer() as peer:
        attributes = termios.tcgetattr(peer.master)
        attributes[2] |= termios.HUPCL  # as a real port has it
        termios.tcsetattr(peer.master, termios.TCSANOW, attributes)
        with open_link(f"{peer.url}?baud=57600"):
            changed = termios.tcgetattr(peer.master)
        iflag, oflag, cflag, lflag, speed, _, _ = changed
    assert speed == termios.B57600
    assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert not oflag & termios.OPOST
    assert not iflag & (termios.ICRNL | termios.IXON)
    assert not cflag & termios.HUPCL, "a later opening would reset the board"


def test_a_pty_is_not_locked_for_ever_by_a_reader_that_is_killed() -> None:
    with PtyPeer() as peer, peer.open():
        assert is_exclusive(peer.path) == 0


def test_a_port_is_locked_for_every_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_link, "_PTY_MAJORS", range(0))  # let a pty pass for a real port
    with PtyPeer() as peer:
        with peer.open():
            assert is_exclusive(peer.path) == 1
        assert is_exclusive(peer.path) == 0


def is_exclusive(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)  # as root, a locked one opens too
    try:
        answer = fcntl.ioctl(descriptor, TIOCGEXCL, bytes(4))
    finally:
        os.close(descriptor)
    value: int = struct.unpack("i", answer)[0]
    return value


def test_a_device_that_takes_nothing_is_not_waited_for_twice() -> None:
    with linked(PtyPeer()) as link:
        began = time.monotonic()
        for _ in range(50):
            link.write(bytes(4096))
        assert time.monotonic() - began < PATIENCE_S  # a second for each would be 50
        assert link.read(0) is None, "and it may still send"


def test_a_device_that_takes_bytes_again_gets_them() -> None:
    with PtyPeer() as peer, peer.open() as link:
        stuck = b"x" * 100_000
        link.write(stuck)
        os.set_blocking(peer.master, False)
        while True:
            try:
                os.read(peer.master, 65_536)
            except BlockingIOError:
                break
        os.set_blocking(peer.master, True)
        link.write(b"again")
        assert peer.received(5) == b"again"


def test_what_nobody_takes_is_thrown_away_on_closing() -> None:
    with PtyPeer() as peer:
        with peer.open() as link:
            link.write(b"x" * 100_000)
        os.set_blocking(peer.master, False)
        left = 0
        with suppress(OSError), peer.open():
            while True:
                left += len(os.read(peer.master, 65_536))
    assert left < 8192, "no more than what is on its way already"


def test_bytes_of_a_fast_stream_gather() -> None:
    chunks = []
    with PtyPeer() as peer, peer.open() as link:
        done = threading.Event()

        def send() -> None:
            while not done.is_set():
                peer.send(b"x" * 45)
                time.sleep(0.0001)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(200):
                chunk = link.read(1.0)
                assert chunk is not None
                chunks.append(chunk)
        finally:
            done.set()
            sender.join()
    # Without gathering, they are as near as the writes. What piles up is read at once.
    steps = [
        after.arrived_at - before.arrived_at
        for before, after in pairwise(chunks)
        if len(before.data) < 2048
    ]
    assert min(steps, default=1.0) >= 0.0014


def test_a_device_that_goes_away_while_it_is_looked_for_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def comports() -> list[ListPortInfo]:
        return [int(None, 16)]  # type: ignore[call-overload]  # pyserial, of a file that is gone

    monkeypatch.setattr(list_ports, "comports", comports)
    with pytest.raises(SourceError, match="No serial port has vid=2341: is the device plugged in"):
        open_link("serial:?vid=2341")
    with pytest.raises(SourceError, match=r"Cannot open /dev/ttyNOT: there is no such port\.$"):
        open_link("/dev/ttyNOT")
