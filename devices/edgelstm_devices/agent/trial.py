"""Tries a release in the place of the one that runs, and takes it or goes back.

`systemctl restart` on a unit that a reboot forgets: the process of before ends, since a serial port
can be open only once, and the new one has to get ready, receive readings and stay healthy. Whatever
else happens, the one of before is started again: by this process, or by systemd when this process
dies (`switching.guarded`), or by the next boot. `history.jsonl` has a line for each trial: `time`,
`what` ("deploy", "rollback"), `release`, `previous`, `committed`, `reason` and `restored`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .context import AgentError, Context
from .history import append_history, read_history
from .layout import Layout, Service
from .returning import go_back
from .switching import (
    Claim,
    Taking,
    claimed,
    dismiss_guards,
    guarded,
    named_release,
    put_on_trial,
    release_spec,
)
from .systemd import Systemd
from .watching import (
    TrialError,
    Watch,
    has_ended,
    is_wanted,
    read_health,
    silent_sensors,
    state_of,
)

READY_S, READINGS_S, GRACE_S, SILENCE_S = 120.0, 60.0, 30.0, 20.0
_MARGIN_S = 300.0
"""What a trial may take besides: for stopping the process of before, twice, and slow disks."""
_JOURNAL_LINES = 20


def trial(
    context: Context,
    *,
    layout: Layout,
    spec: Mapping[str, Any],
    ready_timeout: float = READY_S,
    readings_timeout: float = READINGS_S,
    grace: float = GRACE_S,
    silence: float = SILENCE_S,
) -> dict[str, Any]:
    """Tries a release that is staged, and takes it if it does well.

    Sends the events "starting", "ready", "reading", "healthy", "committed", or "rolling back" and
    "rolled back" (as `what`, with `release`; the last two with `reason`).

    Args:
        context: of the caller; when it goes away before the release is taken, it is not.
        layout: of the installation.
        spec: of the release, as its release.json has it.
        ready_timeout: seconds for the service to get ready.
        readings_timeout: seconds for a reading of every sensor to come, after that.
        grace: seconds that it has to stay healthy, after that.
        silence: seconds without news in its health file after which it counts as hung.

    Returns:
        - `release`, `previous`: ids; "" when there was none before,
        - `committed`: whether the release is taken, and `reason`: why not, one sentence,
        - `restored`: what runs in its stead: "active", or "stopped" or "none" as before, or
          "failed" when the one of before does not get ready either; "" when it was taken,
        - `journal`: the last lines of the release that was given up,
        - `seconds`: that each of `stopping`, `ready`, `readings`, `grace` and `whole` took, where
          it came so far, and `down`, without a service that was ready.

    Raises:
        AgentError: nothing was tried: the release is not there, or another trial is going on.
    """
    return _try(
        context, layout, layout.service(spec["service"]), "deploy", spec,
        (ready_timeout, readings_timeout, grace, silence),
    )  # fmt: skip


def rollback(
    context: Context,
    *,
    layout: Layout,
    service: str,
    to: str = "",
    ready_timeout: float = READY_S,
    readings_timeout: float = READINGS_S,
    grace: float = GRACE_S,
    silence: float = SILENCE_S,
) -> dict[str, Any]:
    """Goes to an earlier release, by a trial of it.

    Args:
        context: of the caller.
        layout: of the installation.
        service: its name.
        to: the id of a release; "" for the one that was taken before the current one.
        ready_timeout: as for `trial`, like all that follow.
        readings_timeout: see there.
        grace: see there.
        silence: see there.

    Returns:
        As `trial` does.

    Raises:
        AgentError: there is no such release, or nothing was tried.
    """
    place = layout.service(service)
    if not to:
        to = previous_good(place)
    if not to:
        raise AgentError(
            f"There is no earlier release of {service} on the device; deploy the wanted one."
        )
    spec = release_spec(place, to)
    return _try(
        context, layout, place, "rollback", spec,
        (ready_timeout, readings_timeout, grace, silence),
    )  # fmt: skip


def settle(
    context: Context,  # noqa: ARG001  # as every call
    *,
    layout: Layout,
    service: str,
) -> dict[str, Any]:
    """Brings a trial to its end whose process died.

    Args:
        context: of the caller.
        layout: of the installation.
        service: its name.

    Returns:
        `release`: the current one, and `what` was done: "nothing", "went back" from a trial, or
        "took" a release that was half taken.

    Raises:
        AgentError: a trial is going on.
    """
    place, systemd = layout.service(service), Systemd(layout)
    with claimed(place) as claim:
        what = _settle(place, systemd, claim)
    return {"release": place.current_release(), "what": what}


def previous_good(service: Service) -> str:
    """The id of the release that was taken before the current one and is there; "" without one.

    What was rolled back from does not count: a second rollback goes further back.
    """
    taken: list[str] = []
    for entry in read_history(service):
        if not entry.get("committed"):
            continue
        release = entry["release"]
        if entry.get("what") == "rollback" and release in taken:
            del taken[taken.index(release) :]
        taken = [one for one in taken if one != release] + [release]
    current = service.current_release()
    before = taken[: taken.index(current)] if current in taken else taken
    there = (one for one in reversed(before) if (service.release(one) / "release.json").is_file())
    return next(there, "")


def _settle(service: Service, systemd: Systemd, claim: Claim) -> str:
    noted, what = claim.noted(), "nothing"
    if noted:
        dismiss_guards(service, systemd)
    on_trial = service.trial_unit_file.exists()
    taken = named_release(service)
    if on_trial and service.current_release() == noted.get("release") != noted.get("previous"):
        taken = service.current_release()
    if taken:
        taking = Taking(service, systemd, release_spec(service, taken))
        for step in (*taking.to_take(), *taking.to_finish()):
            step()
        what = "took"
    elif on_trial:
        # Nobody knows any more what was before, if nothing is noted.
        go_back(service, systemd, wanted=noted.get("wanted", True), seconds=READY_S)
        what = "went back"
    if noted:
        committed = service.current_release() == noted.get("release") != noted.get("previous")
        reason = "" if committed else "The deployment was cut off, and the device went back."
        _remember(service, noted, committed=committed, reason=reason, restored="")
        claim.note()
    return what


def _try(
    context: Context,
    layout: Layout,
    service: Service,
    what: str,
    spec: Mapping[str, Any],
    times: tuple[float, float, float, float],
) -> dict[str, Any]:
    release_spec(service, spec["id"])
    systemd = Systemd(layout)
    with _steadfast() as stopped, claimed(service) as claim:
        _settle(service, systemd, claim)
        one = _Trial(context, service, systemd, spec, times, stopped)
        note = {"what": what, "release": spec["id"], "previous": one.previous}
        claim.note(**note, wanted=one.wanted, started=time.time())
        limit = sum(times) + _MARGIN_S
        try:
            with guarded(service, systemd, claim, restart=one.wanted, limit=limit):
                answer = one.run()
        finally:
            with contextlib.suppress(AgentError):
                claim.note()
        _remember(service, note, **{key: answer[key] for key in _REMEMBERED})
    return answer


_REMEMBERED = ("committed", "reason", "restored")


def _remember(service: Service, note: Mapping[str, Any], **result: Any) -> None:
    entry = {key: note.get(key, "") for key in ("what", "release", "previous")}
    # A full disk: what was done stays done.
    with contextlib.suppress(OSError):
        append_history(service, {"time": time.time(), **entry, **result})


@contextlib.contextmanager
def _steadfast() -> Iterator[threading.Event]:
    """Lets no signal end this process half-way; gives whether one came.

    A session that ends sends them: then the trial is given up in order. In a thread there is no
    way to do that, and the guard has to.
    """
    stopped = threading.Event()
    caught = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in caught}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Trial:
    """One release in the place of another."""

    def __init__(
        self,
        context: Context,
        service: Service,
        systemd: Systemd,
        spec: Mapping[str, Any],
        times: tuple[float, float, float, float],
        stopped: threading.Event,
    ) -> None:
        self._context, self._service, self._systemd = context, service, systemd
        self._spec, self._times, self._stopped = spec, times, stopped
        self._before = state_of(systemd, service)
        self._excused = silent_sensors(read_health(service, self._before["MainPID"]))
        self.previous = service.current_release()
        self.wanted = is_wanted(self._before)
        self._seconds: dict[str, float] = {}
        self._began = time.monotonic()
        ready, _, _, silence = times
        self._ready_s = ready
        self._watch = Watch(systemd, service, self._before["InvocationID"], self._goes_on, silence)

    def run(self) -> dict[str, Any]:
        """Tries it; see `trial`."""
        reason, restored, journal = "", "", []
        try:
            self._prove()
            self._take()
            self._event("committed")
        except (TrialError, AgentError, OSError) as error:
            reason = f"The new release was not taken: {_clause(error)}."
            self._event("rolling back", reason=reason)
            journal = self._journal()
            restored = self._go_back()
            self._event("rolled back", reason=reason, restored=restored)
        except BaseException:  # a mistake of ours must not leave the service down
            self._go_back()
            raise
        self._seconds["whole"] = time.monotonic() - self._began
        return {
            "release": self._spec["id"],
            "previous": self.previous,
            "committed": not restored,
            "reason": reason,
            "restored": restored,
            "journal": journal,
            "seconds": {name: round(seconds, 3) for name, seconds in self._seconds.items()},
        }

    def _goes_on(self) -> bool:
        return self._context.alive() and not self._stopped.is_set()

    def _event(self, what: str, **fields: Any) -> None:
        self._context.event(what=what, release=self._spec["id"], **fields)

    def _prove(self) -> None:
        ready, readings, grace, _ = self._times
        watch, unit = self._watch, self._service.unit
        self._event("starting")
        put_on_trial(self._service, self._systemd, self._spec)
        self._systemd.forget_failure(unit)
        with self._timed("down"):
            with self._timed("stopping"):
                self._systemd.restart(unit, wait=False)
                watch.until_stopped()
            with self._timed("ready"):
                watch.until_ready(ready)
        self._event("ready")
        if self._spec.get("expect_readings", True):
            with self._timed("readings"):
                watch.until_readings(readings, self._excused)
            self._event("reading", excused=sorted(self._excused))
        with self._timed("grace"):
            watch.for_a_while(grace)
        self._event("healthy")

    def _take(self) -> None:
        taking = Taking(self._service, self._systemd, self._spec)
        try:
            # All of it reached the disk, which may have taken a while on a memory card.
            self._watch.for_a_while(0.0)
            if not self._service.trial_unit_file.exists():
                raise TrialError("the deployment took too long")
            for step in taking.to_take():
                step()
        except BaseException:
            taking.give_up()
            raise
        for step in taking.to_finish():
            # It is taken. What cannot be done now, such as on a disk that fails, `settle` does.
            with contextlib.suppress(OSError, AgentError):
                step()
        # Until just now its unit said not to start it a second time.
        with contextlib.suppress(AgentError):
            if has_ended(state_of(self._systemd, self._service)):
                self._systemd.restart(self._service.unit, wait=False)

    def _go_back(self) -> str:
        began = time.monotonic()
        try:
            return go_back(self._service, self._systemd, wanted=self.wanted, seconds=self._ready_s)
        except (AgentError, OSError):
            return "failed"
        finally:
            down = self._seconds.get("down", 0.0) + time.monotonic() - began
            self._seconds["down"] = down

    def _journal(self) -> list[str]:
        if not self._watch.invocation:
            return []
        with contextlib.suppress(AgentError):
            return self._systemd.journal(
                self._service.unit, _JOURNAL_LINES, invocation=self._watch.invocation
            )
        return []

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = time.monotonic() - began


def _clause(error: BaseException) -> str:
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        return f"on the device, {what}{error.strerror or error}"
    return str(error).rstrip(".")
