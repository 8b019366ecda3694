"""What goes wrong with an MQTT broker, in plain words."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from edgelstm.errors import RefusedNoticeError, SinkError
from edgelstm.sinks.mqtt.config import BrokerOptions

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

TOO_LARGE = 0x95
TAKEN_OVER = 0x8E
_UNSPECIFIED = 0x80
# With these a broker hangs up, or paho does for it, because of what it was sent.
BECAUSE_OF_US = (0x81, 0x82, 0x90, 0x93, TOO_LARGE, 0x99)
# What the same message will always meet again (MQTT 5.0, 3.4.2.1).
_FINAL = {0x90: "its topic name", 0x99: "its payload", TOO_LARGE: "its size"}
_LOGIN = (0x85, 0x86, 0x87, 0x8A, 0x8C)  # client id, user name or password, not authorised, banned


def no_connection(broker: BrokerOptions, error: OSError | ValueError) -> str:
    """Why there is no connection."""
    cannot = f"Cannot connect to the MQTT broker {broker.name}: "
    if isinstance(error, ConnectionRefusedError):
        return f"{cannot}nothing listens there; start it, or correct host and port."
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{cannot}its certificate is not trusted ({error.verify_message}); name the "
            "certificate of its authority with ca_file, and the host as the certificate has it."
        )
    if isinstance(error, ssl.SSLError) or (broker.tls and isinstance(error, ConnectionError)):
        return (
            f"{cannot}no TLS with it ({why(error)}); look whether this port has TLS, and whether "
            "the broker wants the certificate of a client."
        )
    if isinstance(error, TimeoutError):
        return f"{cannot}no answer; look whether the host is on, and in this network."
    if isinstance(error, socket.gaierror):
        return f"{cannot}no such host is known; correct its name."
    return f"{cannot}{why(error)}."


def not_let_in(broker: BrokerOptions, reason: ReasonCode) -> str:
    """Why the broker refuses the connection."""
    about = f"The MQTT broker {broker.name} "
    if str(reason) == "Unsupported protocol version":
        return f"{about}does not know MQTT {broker.protocol}; set protocol = 4."
    if reason.value in _LOGIN:
        return f"{about}refuses the login ({reason}); correct user, password and client_id."
    return f"{about}refuses the connection ({reason})."


def why(error: OSError | ValueError) -> str:
    """What the system says of an error, in a few words."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return getattr(error, "strerror", None) or str(error)


def lost(broker: BrokerOptions, reason: ReasonCode) -> str:
    """Why the connection broke."""
    if reason.value == TAKEN_OVER:
        return (
            f"Another client has connected to the MQTT broker {broker.name} as "
            f"{broker.client_id!r}; give each one its own client_id."
        )
    said = "" if reason.value == _UNSPECIFIED else f" ({reason})"
    return f"The connection to the MQTT broker {broker.name} broke{said}."


def refusal(broker: BrokerOptions, topic: str, code: int, reason: str) -> SinkError:
    """What it means that the broker does not take a message."""
    about = f"The MQTT broker {broker.name} refuses a message on {topic}"
    if code in _FINAL:
        return RefusedNoticeError(f"{about} because of {_FINAL[code]} ({reason}).")
    if code in _LOGIN:
        return SinkError(
            f"{about} ({reason}); give the user {broker.user!r} the right to write there."
        )
    return SinkError(f"{about} ({reason}).")
