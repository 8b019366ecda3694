"""`MqttConfig`: the options of the sink `mqtt`, and how its broker is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgelstm.errors import ConfigurationError
from edgelstm.secret import Secret

GATEWAY = "{gateway}"
"""In a topic, it stands for the name of this computer."""

_TLS_PORT, _PLAIN_PORT = 8883, 1883
_LONGEST_TOPIC = 60_000  # bytes; MQTT has 65,535, and a sensor's name comes after


def _help(text: str, **more: Any) -> dict[str, Any]:
    return {"help": text, **more}


@dataclass(frozen=True)
class MqttConfig:
    """Options of the sink `mqtt`.

    Raises:
        ConfigurationError: they do not make sense, or not together.
    """

    host: str = field(metadata=_help("Name or address of the broker.", example="broker.local"))
    port: int | None = field(
        default=None, metadata=_help("8883 with TLS, else 1883.", example=8883)
    )
    tls: bool | None = field(
        default=None,
        metadata=_help(
            "Encrypted; by itself with port 8883, ca_file or certificate.", example=True
        ),
    )
    ca_file: Path | None = field(
        default=None,
        metadata=_help(
            "Certificate of the broker's authority, if it is your own.", example="ca.pem"
        ),
    )
    certificate: Path | None = field(
        default=None,
        metadata=_help("The client's, where the broker wants one.", example="edge.pem"),
    )
    key: Path | None = field(
        default=None, metadata=_help("The client's, if in another file.", example="edge.key")
    )
    user: str = field(default="", metadata=_help("Name of the user.", example="edge"))
    password: Secret | None = field(default=None, metadata=_help("Of the user."))
    topic: str = field(
        default=f"edgelstm/{GATEWAY}", metadata=_help("All topics are below this one.")
    )
    client_id: str = field(
        default="",
        metadata=_help(
            "No other client may have it; by default made of the topic.", example="edge-1"
        ),
    )
    protocol: Literal[5, 4] = field(default=5, metadata=_help("4 is MQTT 3.1.1."))
    keepalive: int = field(
        default=15, metadata=_help("Seconds; a broken line is seen after one and a half of them.")
    )
    timeout: float = field(default=10.0, metadata=_help("Seconds to wait for the broker."))
    interval: float = field(
        default=30.0, metadata=_help("Seconds between two reports of score and health.")
    )
    home_assistant: bool = field(
        default=False, metadata=_help("Entities appear in Home Assistant by themselves.")
    )
    discovery_prefix: str = field(
        default="homeassistant", metadata=_help("As Home Assistant has it.")
    )
    expire_after: int | None = field(
        default=None,
        metadata=_help(
            "Seconds until a value that is not renewed is void; 4 intervals.", example=120
        ),
    )

    def __post_init__(self) -> None:
        self._check_connection()
        for name, topic in (("topic", self.topic), ("discovery_prefix", self.discovery_prefix)):
            if not _is_topic(topic):
                raise ConfigurationError(
                    f"The {name} {topic!r} of an MQTT sink cannot be published to; take words with "
                    "slashes between them, without +, # and $."
                )
        if set(self.topic.replace(GATEWAY, "")) & set("{}"):
            raise ConfigurationError(
                f"The topic {self.topic!r} of an MQTT sink has a brace too many; only {GATEWAY} is "
                "replaced."
            )
        if not 1 <= self.interval <= 86_400:
            raise ConfigurationError(
                f"The interval of an MQTT sink is {self.interval:g} s; it must be 1 s to a day."
            )
        if self.expire_after is not None and self.expire_after <= self.interval:
            raise ConfigurationError(
                f"Values of an MQTT sink would expire after {self.expire_after} s, before the next "
                f"report after {self.interval:g} s; take a longer expire_after."
            )

    def _check_connection(self) -> None:
        if not self.host or "/" in self.host:
            raise ConfigurationError(
                f"The host {self.host!r} of an MQTT sink is no name of a computer; take one such "
                "as broker.local, without mqtt://."
            )
        if self.port is not None and not 1 <= self.port <= 65_535:
            raise ConfigurationError(
                f"The port {self.port} of an MQTT sink does not exist; take 1 to 65535."
            )
        if self.tls is False and (self.ca_file or self.certificate):
            raise ConfigurationError(
                "An MQTT sink with certificates needs TLS; leave tls = false out."
            )
        if self.key is not None and self.certificate is None:
            raise ConfigurationError("An MQTT sink with a key needs its certificate, too.")
        if self.password is not None and not self.user:
            raise ConfigurationError("An MQTT sink with a password needs the user, too.")
        if self.protocol not in (4, 5):
            raise ConfigurationError(
                f"There is no MQTT protocol {self.protocol}; take 5, or 4 for MQTT 3.1.1."
            )
        if not 2 <= self.keepalive <= 65_535:
            raise ConfigurationError(
                f"The keepalive of an MQTT sink is {self.keepalive} s; take 2 to 65535."
            )
        if not 0 < self.timeout <= 600:
            raise ConfigurationError(
                f"The timeout of an MQTT sink is {self.timeout:g} s; take one up to 600 s."
            )


@dataclass(frozen=True)
class BrokerOptions:
    """How a broker is reached.

    Attributes:
        host: name or address.
        port: of it.
        tls: whether the connection is encrypted.
        ca_file: the certificates of the authorities to trust; None for those of the system.
        certificate: of the client; None for none.
        key: of that; None when it is in the same file.
        user: "" for none.
        password: None for none.
        client_id: by which the broker knows the client; a second one takes the first one's place.
        protocol: 5, or 4 for MQTT 3.1.1.
        keepalive: seconds after which the other side must have said something.
        timeout: seconds to wait for an answer.
    """

    host: str
    port: int
    tls: bool
    ca_file: Path | None
    certificate: Path | None
    key: Path | None
    user: str
    password: Secret | None
    client_id: str
    protocol: int
    keepalive: int
    timeout: float

    @property
    def name(self) -> str:
        """Of the broker, for people."""
        return f"{self.host}:{self.port}"


def broker_options(config: MqttConfig, directory: Path, base: str) -> BrokerOptions:
    """How the broker of a configuration is reached.

    Args:
        config: of the sink.
        directory: what relative paths are relative to.
        base: the topic that all others are below.
    """
    certificates = config.ca_file is not None or config.certificate is not None
    tls = config.tls if config.tls is not None else certificates or config.port == _TLS_PORT
    return BrokerOptions(
        host=config.host,
        port=config.port or (_TLS_PORT if tls else _PLAIN_PORT),
        tls=tls,
        ca_file=config.ca_file and directory / config.ca_file,
        certificate=config.certificate and directory / config.certificate,
        key=config.key and directory / config.key,
        user=config.user,
        password=config.password,
        client_id=config.client_id or base.replace("/", "-"),
        protocol=config.protocol,
        keepalive=config.keepalive,
        timeout=config.timeout,
    )


def _is_topic(text: str) -> bool:
    return (
        bool(text.strip("/"))
        and not set(text) & set("+#\0")
        and not text.startswith(("/", "$"))
        and not text.endswith("/")
        and len(text.encode()) < _LONGEST_TOPIC
    )
