"""What `edgelstm run` shows, where it cannot be shown."""

from __future__ import annotations

import errno
import logging

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
