"""Watches a service that was just started, and says why it will not do."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .context import AgentError
from .layout import Service
from .systemd import Systemd

_POLL_S = 0.25
_STOP_S = 150.0
"""For the old process to end: systemd kills it after the unit's TimeoutStopSec, which is 30 s."""
_MOST_HEALTH = 1 << 20
"""Bytes: of a hundred sensors it has some 50 KB."""
_PROPERTIES = (
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "InvocationID",
    "ExecMainStatus",
    "Job",
)
_RESULTS = {
    "timeout": "it did not get ready, or did not stop, in the time that its unit gives it",
    "watchdog": "the watchdog ended it, for it made no progress",
    "oom-kill": "it needed more memory than there is",
    "start-limit-hit": "it was started too often",
    "success": "it ended by itself",
    "protocol": "it ended by itself before it was ready",
}
_NOT_EVEN_STARTED = {
    "203": "its program cannot be run",
    "216": "a group that its unit names does not exist",
    "217": "its user does not exist, or may have no namespace of users",
    "226": "this system cannot shut it in as its unit says",
}
"""Exit statuses that are systemd's own, see systemd.exec(5)."""


class TrialError(Exception):
    """Why a release is not taken: a clause for people, without a full stop."""


def state_of(systemd: Systemd, service: Service) -> dict[str, str]:
    """What systemd knows of a service: `InvocationID` changes with each start of it."""
    return systemd.show(service.unit, *_PROPERTIES)


def is_wanted(state: Mapping[str, str]) -> bool:
    """Whether a service runs, or would if it could."""
    return state["ActiveState"] in ("active", "reloading", "activating", "failed")


def has_ended(state: Mapping[str, str]) -> bool:
    """Whether the process that was started is gone, or about to go."""
    active, sub = state["ActiveState"], state["SubState"]
    return active in ("failed", "inactive", "deactivating") or sub.startswith("auto-restart")


def read_health(service: Service, pid: str) -> dict[str, Any]:
    """What a process last wrote about itself; empty when it did not, or another one did.

    The service may put there what it likes, and must not hold up who is to replace it.
    """
    try:
        # A named pipe would have its reader wait, and a link leads to what others may not read.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(service.health_file, flags), "rb") as file:  # noqa: PTH123  # it has no flags
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return {}
            health = json.loads(file.read(_MOST_HEALTH))
        return health if str(health["pid"]) == pid and _is_sound(health) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_sound(health: Mapping[str, Any]) -> bool:
    """Whether it has what is read of it, each as what it should be."""
    return (
        isinstance(health.get("status", ""), str)
        and all(
            isinstance(sensor["status"], str) and isinstance(sensor.get("readings", 0), int)
            for sensor in health.get("sensors", {}).values()
        )
        and all(isinstance(problem, str) for problem in health.get("problems", ()))
    )


def silent_sensors(health: Mapping[str, Any]) -> frozenset[str]:
    """Sensors that are not watched, unless none is: of those a new release is not asked."""
    sensors = health.get("sensors", {})
    failing = frozenset(name for name, sensor in sensors.items() if sensor["status"] == "failing")
    return failing if len(failing) < len(sensors) else frozenset()


class Watch:
    """One start of a service.

    Args:
        systemd: that starts it.
        service: the service.
        before: the `InvocationID` of what ran before.
        goes_on: whether to go on; asked several times a second.
        silence: seconds without a word in the health file after which the service counts as hung.
    """

    def __init__(
        self,
        systemd: Systemd,
        service: Service,
        before: str,
        goes_on: Callable[[], bool],
        silence: float,
    ) -> None:
        self._systemd, self._service = systemd, service
        self._goes_on, self._silence = goes_on, silence
        self._before = before
        self.invocation = ""
        self._written: Any = None  # the time in the health file, by the device's clock
        self._news = time.monotonic()  # when that last changed: the clock may be set meanwhile
        self._first: dict[str, int] = {}  # readings that each sensor had when it was first seen
        self._heard: set[str] = set()  # sensors that got more of them

    def until_stopped(self) -> None:
        """Waits until the process before is gone, and this one was started.

        Raises:
            TrialError: it does not stop, or the trial is to end.
        """
        stop = time.monotonic() + _STOP_S
        while True:
            state = self._look()
            current = state["InvocationID"]
            if current and current != self._before:
                self.invocation = current
                self._news = time.monotonic()
                return
            if has_ended(state) and state["Job"] in ("", "0"):
                raise TrialError("systemd did not start it")
            if time.monotonic() > stop:
                raise TrialError("the process of before did not end, so that it could not start")
            time.sleep(_POLL_S)

    def until_ready(self, seconds: float) -> None:
        """Waits until the service has told systemd that it is ready.

        Raises:
            TrialError: it ends, or takes longer, or the trial is to end.
        """
        stop = time.monotonic() + seconds
        while self._state()["ActiveState"] not in ("active", "reloading"):
            if time.monotonic() > stop:
                raise TrialError(f"it did not get ready within {seconds:g} s")
            time.sleep(_POLL_S)
        self._news = time.monotonic()

    def until_readings(self, seconds: float, excused: frozenset[str]) -> None:
        """Waits until every sensor has received a reading.

        Args:
            seconds: to wait at most.
            excused: sensors that need not.

        Raises:
            TrialError: none comes, the service ends or hangs, or the trial is to end.
        """
        stop = time.monotonic() + seconds
        while True:
            health = self._health()
            missing = sorted(set(health.get("sensors", {})) - self._heard - excused)
            if health and not missing:
                return
            if time.monotonic() > stop and health:
                problems = "; ".join(health.get("problems", ()))
                raise TrialError(
                    f"it is ready, but no reading came from {', '.join(missing)} within "
                    f"{seconds:g} s" + (f" ({problems})" if problems else "")
                )
            time.sleep(_POLL_S)

    def for_a_while(self, seconds: float) -> None:
        """Looks on while the service works.

        Raises:
            TrialError: a sensor that was watched is so no longer, the service ends or hangs, or
                the trial is to end.
        """
        stop = time.monotonic() + seconds
        while True:
            health = self._health()
            if health:
                _check(health, self._heard)
                if time.monotonic() >= stop:
                    return
            time.sleep(_POLL_S)

    def _health(self) -> dict[str, Any]:
        health = read_health(self._service, self._state()["MainPID"])
        now = time.monotonic()
        if health and health.get("time") != self._written:
            self._written, self._news = health.get("time"), now
        elif now - self._news > self._silence:
            raise TrialError(
                f"it did not write {self._service.health_file} for {self._silence:g} s"
            )
        for name, sensor in health.get("sensors", {}).items():
            if sensor["readings"] > self._first.setdefault(name, sensor["readings"]):
                self._heard.add(name)
        return health

    def _state(self) -> dict[str, str]:
        state = self._look()
        if state["InvocationID"] != self.invocation:
            raise TrialError("somebody else started or stopped it meanwhile")
        if has_ended(state):
            raise TrialError(self._why_ended(state))
        return state

    def _look(self) -> dict[str, str]:
        if not self._goes_on():
            raise TrialError("the deployment was cancelled, or its connection to the device ended")
        return state_of(self._systemd, self._service)

    def _why_ended(self, state: Mapping[str, str]) -> str:
        result, status = state["Result"], state["ExecMainStatus"]
        if result == "exit-code":
            meaning = _NOT_EVEN_STARTED.get(status, "")
            why = f"it ended with exit status {status}" + (f", {meaning}" if meaning else "")
        elif result in ("signal", "core-dump"):
            why = f"it was ended by {_signal_name(status)}"
        else:
            why = _RESULTS.get(result, f"systemd could not run it ({result})")
        said: list[str] = []
        with suppress(AgentError):  # without a journal the rest is reason enough
            said = self._systemd.journal(
                self._service.unit, 1, invocation=self.invocation, own=True
            )
        return f"{why}: {said[0]}" if said and said[0] else why


def _check(health: Mapping[str, Any], heard: set[str]) -> None:
    """What was never heard of may be failing: nothing was expected of it."""
    sensors = health.get("sensors", {})
    failing = {name: one for name, one in sensors.items() if one["status"] == "failing"}
    for name in sorted(heard & set(failing)):
        raise TrialError(f"{name} is failing: {failing[name].get('problem') or 'it says no more'}")
    if health.get("status") == "failing" and not failing:
        problems = "; ".join(health.get("problems", ())) or "it does not say why"
        raise TrialError(f"it says that it is failing: {problems}")


def _signal_name(number: str) -> str:
    try:
        return signal.Signals(int(number)).name
    except ValueError:
        return f"signal {number}"
