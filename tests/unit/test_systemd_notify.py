"""What systemd hears, over real sockets; tests/system/test_systemd_unit.py has systemd itself."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgelstm.systemd import Notifier, under_journal


@contextmanager
def systemd(address: str) -> Iterator[socket.socket]:
    """Listens as systemd does, at a path or at an abstract address that begins with @."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + address[1:] if address.startswith("@") else address)
        channel.settimeout(5)
        yield channel


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@edgelstm-test-{os.getpid()}"


def test_what_systemd_hears(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert notifier.listening
    with systemd(address) as channel:
        notifier.ready("2 sensors")
        assert channel.recv(4096) == b"READY=1\nSTATUS=2 sensors"
        notifier.ready()
        assert channel.recv(4096) == b"READY=1"
        notifier.status("pump:\nsilent  for 3 s")
        assert channel.recv(4096) == b"STATUS=pump: silent for 3 s"
        notifier.watchdog()
        assert channel.recv(4096) == b"WATCHDOG=1"
        notifier.stopping("sends 3 alerts")
        assert channel.recv(4096) == b"STOPPING=1\nSTATUS=sends 3 alerts"


def test_a_reload_says_when(address: str) -> None:
    with systemd(address) as channel:
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        Notifier({"NOTIFY_SOCKET": address}).reloading()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        first, second = channel.recv(4096).decode().splitlines()
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= after


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert not notifier.listening
    notifier.ready("here")
    notifier.reloading()
    notifier.status("well")
    notifier.watchdog()
    notifier.stopping()


def test_systemd_that_went_away_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path})
    for _ in range(3):
        notifier.watchdog()
    assert len(caplog.records) == 1
    with systemd(path) as channel:
        notifier.watchdog()
        assert channel.recv(4096) == b"WATCHDOG=1"


def test_a_systemd_that_does_not_read_stops_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path}, timeout=0.01)
    with systemd(path):
        for _ in range(40):
            notifier.watchdog()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": ""}, None),
    ],
)
def test_when_the_watchdog_wants_to_hear(environ: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environ).watchdog_seconds == seconds


def test_whether_standard_error_goes_to_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stream").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        found = os.fstat(stream.fileno())
        assert under_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not under_journal({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})


@pytest.mark.parametrize("environ", [{}, {"JOURNAL_STREAM": ""}, {"JOURNAL_STREAM": "a:b"}])
def test_without_a_journal(environ: dict[str, str]) -> None:
    assert not under_journal(environ)
