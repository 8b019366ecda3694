"""Acknowledgements: somebody has seen an alert."""

from __future__ import annotations

from dataclasses import replace

from edgelstm.errors import ConfigurationError
from edgelstm.notice import ACKNOWLEDGED, Acknowledgement, Notice


def acknowledgement_of(last: Notice, seen: Acknowledgement) -> Notice:
    """The notice that somebody has seen an alert.

    Args:
        last: the last notice of the alert.
        seen: who has seen it.
    """
    said = f": {seen.note}" if seen.note else ""
    return replace(
        last,
        id=f"{last.alert_id}/{ACKNOWLEDGED}",
        event=ACKNOWLEDGED,
        time=seen.time,
        summary=f"{last.alert.kind.value.replace('_', ' ')} acknowledged by {seen.by}{said}",
        score=None,
        threshold=None,
        acknowledged=seen,
    )


def need_unseen(last: Notice) -> None:
    """Refuses what was acknowledged before.

    Raises:
        ConfigurationError: it was.
    """
    if last.acknowledged is not None:
        raise ConfigurationError(
            f"Alert {last.alert_id} was acknowledged by {last.acknowledged.by} already."
        )
