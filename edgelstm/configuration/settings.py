"""The settings of `edgelstm run`, as values. What is read from a file is checked before it is one.

The metadata of a field has

- `help`: what `edgelstm run --write-config` says of it; docs/configuration.md has the rest;
- `example`: a value as the file has it, where the default is none or says little;
- `least`, `above`, `most`: what a number must be;
- `choices`: what a text must be one of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from edgelstm.alert import AlertPolicy
from edgelstm.backends import BACKENDS
from edgelstm.configuration.hosts import is_loopback
from edgelstm.detectors import THRESHOLDS
from edgelstm.errors import ConfigurationError
from edgelstm.secret import Secret
from edgelstm.sinks import SinkOptions

Rate = Literal["refuse", "resample", "any", "set"]

_PORT = {"least": 0, "most": 65_535}
_USER = re.compile(r"(?<=://)([^/?@:]*)(?=@)")
_LOGIN = re.compile(r"://[^/?@]*@")


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


def out_of_range(value: Any, metadata: Mapping[str, Any]) -> str:
    """What is wrong with a number, such as "is 0; it must be above 0"; "" when nothing is.

    Args:
        value: of a field; anything but a number is right.
        metadata: of the field.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    least, above, most = (metadata.get(name) for name in ("least", "above", "most"))
    if math.isfinite(value) and not (
        (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
    ):
        return ""
    low = f"at least {least:,}" if least is not None else f"above {above:,}" if above == 0 else ""
    high = f"at most {most:,}" if most is not None else ""
    limits = " and ".join(filter(None, (low, high))) or "a finite number"
    return f"is {value:g}; it must be {limits}"


class _Checked:
    """Refuses numbers that are out of range, wherever the settings come from."""

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]  # its subclasses are dataclasses
            if wrong := out_of_range(getattr(self, each.name), each.metadata):
                raise ConfigurationError(f"The setting {each.name!r} {wrong}.")


@dataclass(frozen=True)
class SourceSettings(_Checked):
    """Where readings come from, as the options of `edgelstm run` have it."""

    port: str = field(
        repr=False,  # a URL may have a password
        metadata=_help(
            "A serial port (see: edgelstm ports), or socket:, mqtt:, replay: and so on.",
            example="/dev/ttyACM0",
        ),
    )
    password: Secret | None = field(
        default=None, metadata=_help("Of the user that a URL such as mqtt://user@host/topic names.")
    )
    baud_rate: int | None = field(
        default=None,
        metadata=_help("As the firmware has it; 115200 unless told.", example=115_200, least=1),
    )
    format: str = field(
        default="auto",
        metadata=_help("What the device sends: frames, csv, label, json, keyvalue; auto tells it."),
    )
    raw: Path | None = field(
        default=None,
        metadata=_help("Every byte and its time is also written here.", example="board.raw"),
    )
    timeout: float = field(
        default=10.0,
        metadata=_help(
            "Seconds to wait for the first readings, at each attempt.", above=0, most=86_400
        ),
    )

    def __post_init__(self) -> None:
        """Checks that the password has a place to go."""
        super().__post_init__()
        if not self.port:
            raise ConfigurationError("The setting 'port' is empty; see: edgelstm ports.")
        if self.password is not None and not _USER.search(self.port):
            if _LOGIN.search(self.port):
                raise ConfigurationError(
                    "The setting 'password' is of no use: the port has one in it, too; leave that "
                    "out, as in mqtt://user@host/topic."
                )
            raise ConfigurationError(
                "The setting 'password' is of no use: the port names no user, as "
                "mqtt://user@host/topic does."
            )

    def url(self) -> str:
        """The port with the password in it, to be opened and never to be shown."""
        if self.password is None:
            return self.port
        secret = quote(self.password.reveal(), safe="")
        return _USER.sub(lambda user: f"{user[0]}:{secret}", self.port, count=1)


@dataclass(frozen=True)
class DetectionSettings(_Checked):
    """What overrides the artifact's detection; None for what the artifact, or its policy, has."""

    false_alarms_per_day: float | None = field(
        default=None,
        metadata=_help(
            "How many false alarms are bearable; the artifact's unless told.", example=0.1, above=0
        ),
    )
    threshold: str | None = field(
        default=None,
        metadata=_help(
            f"How the level is found: {', '.join(THRESHOLDS)}; the artifact's unless told.",
            example=THRESHOLDS[0],
            choices=THRESHOLDS,
        ),
    )
    k: int = field(
        default=AlertPolicy.k,
        metadata=_help("An alert opens when k of the last n scores exceed the threshold.", least=1),
    )
    n: int = field(default=AlertPolicy.n, metadata=_help("See k.", least=1))
    minimum_duration: float = field(
        default=AlertPolicy.minimum_duration,
        metadata=_help("Seconds that this must go on before it opens.", least=0),
    )
    quiet: int = field(
        default=AlertPolicy.quiet,
        metadata=_help("Calm scores in a row that close an alert.", least=1),
    )
    cool_down: float = field(
        default=AlertPolicy.cool_down,
        metadata=_help("Seconds after a closing in which none opens.", least=0),
    )
    release: float | None = field(
        default=AlertPolicy.release,
        metadata=_help(
            "Share of the threshold up to which a score is calm; found from the scores unless "
            "told.",
            example=0.8,
            above=0,
            most=1,
        ),
    )
    critical: float = field(
        default=AlertPolicy.critical,
        metadata=_help("An alert is critical from this multiple of the threshold on.", least=1),
    )

    def __post_init__(self) -> None:
        """Checks the figures, and that they go together."""
        super().__post_init__()
        self.policy()

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
class SensorSettings(_Checked):
    """One sensor that is watched with one artifact."""

    artifact: Path = field(
        metadata=_help("The model, a file made by edgelstm quantize.", example="pump.tflite")
    )
    source: str = field(
        default="",
        metadata=_help(
            "Name of its source; may be left out when there is one only.", example="board"
        ),
    )
    channels: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_help(
            "Channel of the model = channel of the device, where they differ.",
            example={"flow": "flow_rate"},
        ),
    )
    rate: Rate = field(
        default="refuse",
        metadata=_help("At a wrong rate: refuse, resample, any (go on), set (ask the device)."),
    )
    calibration: bool = field(
        default=True, metadata=_help("Whether a calibration beside the artifact is taken.")
    )
    backend: str = field(
        default="auto",
        metadata=_help(f"The TFLite runtime: {', '.join(BACKENDS)}.", choices=BACKENDS),
    )
    delegate: str | None = field(
        default=None,
        metadata=_help(
            "edgetpu and the like, or the path of a delegate's library; without it the CPU "
            "computes.",
            example="edgetpu",
        ),
    )
    evidence: int = field(
        default=120,
        metadata=_help(
            "Readings around an alert that are kept; 0 for none.", least=0, most=100_000
        ),
    )
    detection: DetectionSettings = field(
        default_factory=DetectionSettings,
        metadata=_help("How often alerts may be false, and when they open and close."),
    )


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
class OutboxSettings(_Checked):
    """Bounds of the outbox; an open alert is never dropped."""

    max_megabytes: float = field(
        default=64.0, metadata=_help("On the disk; the oldest evidence goes first.", least=4)
    )
    max_days: float = field(
        default=90.0, metadata=_help("Closed alerts that are older are dropped.", above=0)
    )


@dataclass(frozen=True)
class DashboardSettings(_Checked):
    """The page with the live signal."""

    host: str = field(
        default="127.0.0.1",
        metadata=_help("0.0.0.0 for every network; anything but this computer needs a token."),
    )
    port: int = field(default=8765, metadata=_help("0 for a free one.", **_PORT))
    token: Secret | None = field(default=None, metadata=_help("Whoever has it may look on."))

    @property
    def public(self) -> bool:
        """Whether others than this computer can reach it, so that it needs a token."""
        return not is_loopback(self.host)


@dataclass(frozen=True)
class MetricsSettings(_Checked):
    """Figures for Prometheus at /metrics, and /healthz."""

    host: str = field(default="127.0.0.1", metadata=_help("0.0.0.0 for every network."))
    port: int = field(default=9465, metadata=_help("0 for a free one.", **_PORT))


@dataclass(frozen=True)
class RunSettings(_Checked):
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
        public_keys: files of the keys whose artifacts are run; none for everybody's.
        path: the file that this was read from, if any.
    """

    name: str = field(
        metadata=_help("Of this computer in alerts; the host's unless told.", example="pump-room")
    )
    sources: Mapping[str, SourceSettings]
    sensors: Mapping[str, SensorSettings]
    sinks: Mapping[str, SinkSettings] = field(default_factory=dict)
    state_directory: Path | None = field(
        default=None,
        metadata=_help(
            "For the outbox and the states; systemd's, or ~/.local/state/edgelstm/NAME, unless "
            "told.",
            example="state",
        ),
    )
    save_every: float = field(
        default=60.0, metadata=_help("Seconds between two savings of the states.", above=0)
    )
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    dashboard: DashboardSettings | None = None
    metrics: MetricsSettings | None = None
    public_keys: tuple[Path, ...] = field(
        default=(),
        metadata=_help(
            "Only artifacts that one of these keys signed are run; see docs/signing.md.",
            example=("key.pub.pem",),
        ),
    )
    path: Path | None = None
