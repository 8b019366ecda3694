"""A batch as it is written: encoded, and cut into transactions that keep the log small."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from edgelstm.outbox.memory import Batch, Entry
from edgelstm.outbox.writing import pack_evidence, to_json

_log = logging.getLogger(__name__)

_NOTICES_AT_ONCE = 100
_EVIDENCE_AT_ONCE = 200_000  # bytes

T = TypeVar("T")
U = TypeVar("U")


class Chunk(NamedTuple):
    """What goes into one transaction.

    Attributes:
        entries: notices, each as it is stored.
        evidence: by id of the alert, as it is stored.
    """

    entries: list[tuple[Entry, str]]
    evidence: dict[str, bytes]


def chunks_of(batch: Batch) -> list[Chunk]:
    """The notices and the evidence of a batch in order, at least one chunk; mostly that is all."""
    rows = _each(batch.entries, lambda entry: (entry, to_json(entry.notice)))
    evidence = _each_value(batch.evidence, pack_evidence)
    chunks = [
        Chunk(rows[start : start + _NOTICES_AT_ONCE], {})
        for start in range(0, len(rows), _NOTICES_AT_ONCE)
    ] or [Chunk([], {})]
    size = 0
    for alert_id, body in evidence.items():
        size += len(body)
        if size > _EVIDENCE_AT_ONCE and chunks[-1].evidence:
            chunks.append(Chunk([], {}))
            size = len(body)
        chunks[-1].evidence[alert_id] = body
    return chunks


def states_of(batch: Batch) -> dict[str, bytes]:
    """The states of a batch as they are stored."""
    return _each_value(batch.states, lambda state: state.save())


def _each(items: Collection[T], make: Callable[[T], U]) -> list[U]:
    """What is made of each; what nothing can be made of must not keep the rest from the disk."""
    made: list[U] = []
    for item in items:
        try:
            made.append(make(item))
        except Exception:
            _log.exception("the outbox cannot write this, and drops it: %s", type(item).__name__)
    return made


def _each_value(items: Mapping[str, T], make: Callable[[T], U]) -> dict[str, U]:
    made: Iterable[tuple[str, U]] = _each(
        tuple(items.items()), lambda item: (item[0], make(item[1]))
    )
    return dict(made)
