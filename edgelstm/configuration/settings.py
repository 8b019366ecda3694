"""The settings of `edgelstm run`, as values. What is read from a file is checked before it is one.

The `help` of a field is what `edgelstm run --write-config` says of it; the docs have the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgelstm.alert import AlertPolicy
from edgelstm.secret import Secret
from edgelstm.sinks import SinkOptions

Rate = Literal["refuse", "resample", "any", "set"]


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True)
class SourceSettings:
    """Where readings come from, as the options of `edgelstm run` have it."""

    port: str = field(metadata=_help("A serial port such as /dev/ttyACM0, or socket:, mqtt:, ..."))
    baud_rate: int | None = field(default=None, metadata=_help("As the firmware has it."))
    format: str = field(default="auto", metadata=_help("frames, csv, label, json, keyvalue."))
    raw: Path | None = field(default=None, metadata=_help("Every byte is also written here."))
    timeout: float = field(
        default=10.0, metadata=_help("Seconds to wait for the first readings, at each attempt.")
    )


@dataclass(frozen=True)
class DetectionSettings:
    """What overrides the artifact's detection; None for what the artifact, or its policy, has."""

    false_alarms_per_day: float | None = field(
        default=None, metadata=_help("The budget of the threshold.")
    )
    threshold: str | None = field(default=None, metadata=_help("Its kind."))
    k: int = field(default=AlertPolicy.k, metadata=_help("Opens when k of the last n exceed."))
    n: int = field(default=AlertPolicy.n, metadata=_help("See k."))
    minimum_duration: float = field(
        default=AlertPolicy.minimum_duration, metadata=_help("Seconds it must go on to open.")
    )
    quiet: int = field(
        default=AlertPolicy.quiet, metadata=_help("Calm scores in a row that close an alert.")
    )
    cool_down: float = field(
        default=AlertPolicy.cool_down, metadata=_help("Seconds after closing in which none opens.")
    )
    release: float | None = field(
        default=AlertPolicy.release, metadata=_help("Share of the threshold that is calm.")
    )
    critical: float = field(
        default=AlertPolicy.critical,
        metadata=_help("Critical from this multiple of the threshold on."),
    )

    def policy(self) -> AlertPolicy:
        """When alerts open and close.

        Raises:
            ConfigurationError: a figure makes no sense.
        """
        return AlertPolicy(
            self.k,
            self.n,
            self.minimum_duration,
            self.quiet,
            self.cool_down,
            self.release,
            self.critical,
        )


@dataclass(frozen=True)
class SensorSettings:
    """One sensor that is watched with one artifact."""

    artifact: Path = field(metadata=_help("The model, a file made by edgelstm quantize."))
    source: str = field(
        default="", metadata=_help("Name of its source; the only one when there is one.")
    )
    channels: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_help("Channel of the model = channel of the device, where they differ."),
    )
    rate: Rate = field(
        default="refuse",
        metadata=_help("At a wrong rate: refuse, resample, any (go on), set (ask the device)."),
    )
    calibration: bool = field(
        default=True, metadata=_help("Whether a calibration beside the artifact is taken.")
    )
    backend: str = field(default="auto", metadata=_help("The TFLite runtime."))
    delegate: str | None = field(default=None, metadata=_help("edgetpu and the like."))
    evidence: int = field(
        default=120, metadata=_help("Readings around an alert that are kept; 0 for none.")
    )
    detection: DetectionSettings = field(default_factory=DetectionSettings)


@dataclass(frozen=True)
class SinkSettings:
    """Where alerts go: what all sinks know, and the type's own options.

    Attributes:
        name: of the sink.
        options: that every sink has.
        config: an instance of the `Config` of the sink's class.
    """

    name: str
    options: SinkOptions
    config: Any


@dataclass(frozen=True)
class OutboxSettings:
    """Bounds of the outbox; an open alert is never dropped."""

    max_megabytes: float = field(default=64.0, metadata=_help("Oldest evidence goes first."))
    max_days: float = field(default=90.0, metadata=_help("Older closed alerts are dropped."))


@dataclass(frozen=True)
class DashboardSettings:
    """The page with the live signal."""

    host: str = field(
        default="127.0.0.1", metadata=_help("Anything but this computer needs a token.")
    )
    port: int = field(default=8765, metadata=_help("0 for a free one."))
    token: Secret | None = field(default=None, metadata=_help("Whoever has it may look on."))


@dataclass(frozen=True)
class MetricsSettings:
    """Figures for Prometheus at /metrics, and /healthz."""

    host: str = field(default="127.0.0.1", metadata=_help("0.0.0.0 for every network."))
    port: int = field(default=9465, metadata=_help("0 for a free one."))


@dataclass(frozen=True)
class RunSettings:
    """All of it.

    Attributes:
        name: of this computer in alerts; the host's by default.
        state_directory: where the outbox and the states are; None keeps them in memory.
        save_every: seconds between two savings of the states.
        sources: by name.
        sensors: by name.
        sinks: by name.
        outbox: its bounds.
        dashboard: None for none.
        metrics: None for none.
        path: the file that this was read from, if any.
    """

    name: str
    sources: Mapping[str, SourceSettings]
    sensors: Mapping[str, SensorSettings]
    sinks: Mapping[str, SinkSettings] = field(default_factory=dict)
    state_directory: Path | None = None
    save_every: float = 60.0
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    dashboard: DashboardSettings | None = None
    metrics: MetricsSettings | None = None
    path: Path | None = None
