"""Judges the clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight.wanted import Wanted

SECTION = "clock"
LARGEST_S = 300.0  # beyond it certificates are not valid and alerts have a wrong time
NOTED_S = 2.0


def difference(facts: Mapping[str, Any], asked: tuple[float, float]) -> float:
    """By how many seconds a device's clock is ahead at least; negative when it is behind.

    The facts took a while, and so did their way; all that is compatible with a clock that is right
    counts as right (the intersection algorithm of RFC 5905, with one server).

    Args:
        facts: with `time`, when the device began, and `seconds`, that it took.
        asked: when the facts were asked for and when they came, by the laptop's clock.
    """
    latest = facts["time"] - asked[0]
    earliest = facts["time"] + facts.get("seconds", 0.0) - asked[1]
    return float(max(earliest, 0.0) + min(latest, 0.0))


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """What the clock is like."""
    clock = facts.get("clock") or {}
    shown = datetime.fromtimestamp(facts["time"], UTC).isoformat(" ", "seconds")
    ahead = difference(facts, wanted.asked) if wanted.asked else 0.0
    data = {"ahead_seconds": round(ahead, 3), "timezone": facts.get("timezone"), **clock}
    what = f"{shown[:19]} UTC"
    if abs(ahead) > NOTED_S:
        way = "ahead of" if ahead > 0 else "behind"
        level = "problem" if abs(ahead) > LARGEST_S else "note"
        what = f"{what}, {_duration(abs(ahead))} {way} this computer."
        yield Finding(SECTION, "time", level, what, _mend(clock, wanted), data)  # type: ignore[arg-type]
    else:
        yield Finding(SECTION, "time", "ok", what, data=data)
    synchronised = clock.get("synchronised")
    if synchronised:
        yield Finding(SECTION, "synchronised", "ok", "with a time server")
        return
    known = "no" if synchronised is False else "unknown"
    if not clock.get("rtc") and facts.get("model"):
        known += "; it has no clock of its own, so after a power cut the time is wrong"
    mend = "sudo timedatectl set-ntp true" if clock.get("ntp") is False else ""
    yield Finding(SECTION, "synchronised", "note", f"{known}.", mend)


def _mend(clock: Mapping[str, Any], wanted: Wanted) -> str:
    if clock.get("ntp") is False or wanted.asked is None:
        return "sudo timedatectl set-ntp true"
    # A time server is asked already, in vain: there is no network, as is usual.
    now = datetime.fromtimestamp(wanted.asked[1], UTC)
    return f"sudo date -u -s '{now:%Y-%m-%d %H:%M:%S}'  # the time of this check"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
