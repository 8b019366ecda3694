"""Ends a trial, and has the release of before run again."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .layout import Service
from .switching import end_trial
from .systemd import Systemd
from .watching import TrialError, Watch, has_ended, state_of

_PATIENCE_S = 5.0
"""For a process that is given up to end by itself."""
_POLL_S = 0.1


def go_back(service: Service, systemd: Systemd, *, wanted: bool, seconds: float) -> str:
    """Has run again what ran before a trial, or nothing.

    Args:
        service: with a release on trial.
        systemd: that runs it.
        wanted: whether something ran, or should have.
        seconds: for it to get ready.

    Returns:
        "active"; "failed" when it does not get ready; "stopped", or "none" without an installed
        unit, when nothing is wanted.

    Raises:
        AgentError: systemd does not do what it is told.
    """
    unit, before = service.unit, state_of(systemd, service)["InvocationID"]
    if not wanted:
        # By the unit on trial, which knows what is to be removed with it.
        systemd.stop(unit, wait=False)
        _hurry(service, systemd, before)
        ended = has_ended(state_of(systemd, service))
        end_trial(service, systemd)
        systemd.forget_failure(unit)
        installed = systemd.show(unit, "LoadState")["LoadState"] == "loaded"
        return "failed" if not ended else "stopped" if installed else "none"
    end_trial(service, systemd)
    systemd.forget_failure(unit)
    systemd.restart(unit, wait=False)
    _hurry(service, systemd, before)
    watch = Watch(systemd, service, before, lambda: True, seconds)
    try:
        watch.until_stopped()
        watch.until_ready(seconds)
    except TrialError:
        return "failed"
    return "active"


def _hurry(service: Service, systemd: Systemd, invocation: str) -> None:
    """Waits for the process of a start that is given up to end, and ends it if it takes long."""
    began = time.monotonic()
    while time.monotonic() < began + 2 * _PATIENCE_S:
        state = state_of(systemd, service)
        if state["InvocationID"] != invocation or state["ActiveState"] in ("inactive", "failed"):
            return
        process = int(state["MainPID"] or 0)
        if process and time.monotonic() > began + _PATIENCE_S:
            # Not by systemctl: it might hit the one that was just started in its place.
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(_POLL_S)
