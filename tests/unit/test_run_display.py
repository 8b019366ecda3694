"""What `edgelstm run` shows, where it cannot be shown."""

from __future__ import annotations

import errno
import logging
import threading

import click
import pytest

from edgelstm.commands.run_display import RunDisplay


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> RunDisplay:
    """On a full disk."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(click, "echo", fail)
    return RunDisplay()


def test_a_log_that_cannot_be_written_stops_nobody_who_logs(display: RunDisplay) -> None:
    logger = logging.Logger("edgelstm.test")
    logger.addHandler(display)
    logger.warning("the disk is full")
    display.stopped()


def test_an_alert_that_cannot_be_shown_is_not_taken_for_shown(display: RunDisplay) -> None:
    with pytest.raises(OSError, match="No space"):
        display.write("ALERT 1 opened")


def test_a_halted_terminal_holds_up_nobody_but_who_shows_alerts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on, shown = threading.Event(), []

    def echo(line: str, **_: object) -> None:
        assert goes_on.wait(10)
        shown.append(line)

    monkeypatch.setattr(click, "echo", echo)
    display = RunDisplay()
    logger = logging.Logger("edgelstm.test")
    logger.addHandler(display)
    courier = threading.Thread(target=display.write, args=("ALERT 1 opened",))
    courier.start()
    for number in range(3000):  # comes back each time, though nothing is shown
        logger.info("line %d", number)
    assert courier.is_alive()
    goes_on.set()
    courier.join(10)
    assert "ALERT 1 opened" in shown
