"""What is on the disk with what is still in memory laid over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgelstm.notice import Notice, OpenEntry
from edgelstm.outbox.memory import Entry
from edgelstm.outbox.reading import Standing
from edgelstm.outbox.writing import place_of


def overlaid(
    stored: Iterable[Standing],
    fresh: Mapping[str, Sequence[Entry]],
    limit: int | None = None,
    *,
    open_only: bool = False,
    sensor: str | None = None,
    since: float | None = None,
) -> list[Standing]:
    """Alerts as they stand, the newest first; see `Outbox.alerts`.

    Args:
        stored: alerts on the disk.
        fresh: id of an alert -> its notices that are not on the disk, in order.
        limit: how many at most.
        open_only: only those that are open.
        sensor: only those of this one.
        since: only those that opened then or later.
    """
    standing = {one.notice.alert_id: one for one in stored}
    for alert_id, entries in fresh.items():
        before = standing.get(alert_id)
        first = entries[0].sequence if before is None else before.first
        last = entries[-1].notice
        if before is not None and last.acknowledged is None:
            last = replace(last, acknowledged=before.notice.acknowledged)
        standing[alert_id] = Standing(first, last)
    found = [one for one in standing.values() if _fits(one.notice, open_only, sensor, since)]
    found.sort(key=lambda one: -one.first)
    return found[:limit]


def overlaid_open(
    stored: Iterable[OpenEntry], fresh: Mapping[str, Sequence[Entry]], sensor: str
) -> tuple[OpenEntry, ...]:
    """The alerts of a sensor that are open; arguments as `overlaid`."""
    found = {one.alert_id: one for one in stored}
    for alert_id, entries in fresh.items():
        last = entries[-1].notice
        if last.sensor != sensor:
            continue
        before = found.pop(alert_id, None)
        if last.alert.closed is None:
            told = max(place_of(entry.notice) for entry in entries)
            told = max(told, before.notices if before else 0)
            found[alert_id] = OpenEntry(alert_id, last.alert.kind, last.alert.number, told)
    return tuple(found.values())


def _fits(notice: Notice, open_only: bool, sensor: str | None, since: float | None) -> bool:
    alert = notice.alert
    return (
        not (open_only and alert.closed is not None)
        and (sensor is None or notice.sensor == sensor)
        and (since is None or alert.opened >= since)
    )
