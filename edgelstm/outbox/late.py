"""When the service starts while its disk takes nothing: what came meanwhile joins what is there.

Until the file can be opened, notices get sequences from `LATE` on. Then they follow those in the
file. A sink that had not got all of a sensor's notices gets the rest first, and then may get again
what it got from memory meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection

from edgelstm.notice import Notice, OpenEntry
from edgelstm.outbox.cursors import Cursors, Registration
from edgelstm.outbox.faults import closing
from edgelstm.outbox.memory import Memory

LATE = 1 << 40
"""Far above the sequence of any notice in a file."""


def join(memory: Memory, stored: Memory) -> None:
    """Puts what is in memory after what is in the file.

    Args:
        memory: of an outbox that started without its file; sequences from `LATE` on.
        stored: as it is read from the file.
    """
    shift = stored.newest - LATE
    memory.entries = {
        sequence + shift: entry._replace(sequence=sequence + shift)
        for sequence, entry in memory.entries.items()
    }
    memory.newest += shift
    memory.visible += shift
    memory.acknowledged = {**stored.acknowledged, **memory.acknowledged}
    memory.cursors = _joined(memory.cursors, stored.cursors, shift)


def _joined(late: Cursors, stored: Cursors, shift: int) -> Cursors:
    moved = {name: Registration(sink.base + shift, sink.begun) for name, sink in late.sinks.items()}
    at: dict[tuple[str, str], int] = {}
    for name in moved:
        for sensor in {*late.newest, *stored.newest}:
            before = stored.at.get((name, sensor), 0)
            sink = stored.sinks.get(name)
            rest = sink is not None and stored.newest.get(sensor, 0) > max(before, sink.base)
            meanwhile = late.at.get((name, sensor))
            at[name, sensor] = before if rest or meanwhile is None else meanwhile + shift
    sinks = {name: stored.sinks.get(name, sink) for name, sink in moved.items()}
    newest = {
        **stored.newest,
        **{sensor: sequence + shift for sensor, sequence in late.newest.items()},
    }
    deliveries = [one._replace(sequence=one.sequence + shift) for one in late.deliveries]
    return Cursors(sinks, at, newest, dict(at), deliveries, sinks_changed=True)


def closings(
    standing: Collection[Notice], entries: Collection[OpenEntry], time: float
) -> list[Notice]:
    """Closes the alerts in the file, of which no pipeline knows any more.

    Args:
        standing: their last notices.
        entries: how many notices each alert book wrote of them.
        time: of the closing.
    """
    told = {entry.alert_id: entry.notices for entry in entries}
    summary = "alert closed: the service began anew while its disk took nothing"
    return [closing(last, told.get(last.alert_id, 0), summary, time) for last in standing]
