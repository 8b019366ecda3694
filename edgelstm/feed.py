"""What a running service shows to those who look on: metrics, the page, sinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgelstm.evidence import Evidence
from edgelstm.health import Health
from edgelstm.notice import Notice
from edgelstm.verdict_ring import VerdictRing

if TYPE_CHECKING:
    from edgelstm.manifest import Channel


@dataclass(frozen=True)
class SensorInfo:
    """What is fixed about a sensor while its artifact is.

    Attributes:
        name: of the sensor.
        artifact: file name of the model.
        sha256: of the model, 64 hexadecimal digits.
        channels: of its readings, in order.
        compared: names of the channels that have predictions, in order.
        sample_period: seconds.
        window: whether the model reconstructs a window: a prediction is then of its last reading.
    """

    name: str
    artifact: str
    sha256: str
    channels: tuple[Channel, ...]
    compared: tuple[str, ...]
    sample_period: float
    window: bool = False


class Feed(Protocol):
    """A running service, for those who look on. Every method may be called from any thread."""

    def health(self) -> Health:
        """How it is now."""

    def sensors(self) -> tuple[SensorInfo, ...]:
        """What is watched; another artifact or configuration changes it."""

    def ring(self, sensor: str) -> VerdictRing:
        """The last verdicts of a sensor.

        Raises:
            KeyError: there is none of this name.
        """

    def alerts(self, limit: int = 100) -> Sequence[Notice]:
        """The last notice of each of the last alerts, the newest alert first."""

    def evidence(self, alert_id: str) -> Evidence | None:
        """The readings around an alert, if they were kept."""

    def acknowledge(self, alert_id: str, by: str, note: str = "") -> None:
        """Takes note that somebody has seen an alert.

        Raises:
            ConfigurationError: there is no such alert, or it was acknowledged before.
        """
