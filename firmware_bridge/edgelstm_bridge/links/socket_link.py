"""A TCP connection as a link."""

from __future__ import annotations

import contextlib
import socket

from edgelstm.errors import SourceError
from edgelstm_bridge.links.descriptor import DescriptorLink
from edgelstm_bridge.links.link import Link
from edgelstm_bridge.urls import SourceUrl

CONNECT_TIMEOUT_S = 5.0

# A peer that lost its power says no goodbye: ask it after 10 s of silence, and give up 15 s later.
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
)


def open_socket(url: SourceUrl) -> Link:
    """Connects to the host and port of `url`.

    Raises:
        SourceError: nobody answers there.
    """
    try:
        connection = socket.create_connection((url.host, url.port), CONNECT_TIMEOUT_S)
    except OSError as error:
        raise SourceError(why_not_connected(url, error)) from error
    connection.setblocking(False)
    for level, name, value in _KEEP_ALIVE:
        with contextlib.suppress(OSError, AttributeError):  # not every system has every one
            connection.setsockopt(level, getattr(socket, name), value)
    return DescriptorLink(
        connection.fileno(),
        f"{url.scheme}://{url.address}",
        close=connection.close,
        can_write=True,
        advice="did the server stop, or the network go down?",
    )


def why_not_connected(url: SourceUrl, error: OSError) -> str:
    """One sentence on why the host of `url` was not reached."""
    if isinstance(error, ConnectionRefusedError):
        reason = "it refuses connections: does the server run, and is the port right?"
    elif isinstance(error, TimeoutError):
        reason = f"no answer within {CONNECT_TIMEOUT_S:g} s: is the host on, and in this network?"
    elif isinstance(error, socket.gaierror):
        reason = "no such host is known: is its name right?"
    else:
        reason = f"{error.strerror or error}."
    return f"Cannot connect to {url.address}: {reason}"
