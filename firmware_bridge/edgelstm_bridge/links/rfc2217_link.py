"""A serial port behind a network, on a server that speaks RFC 2217 (ser2net, many gateways)."""

from __future__ import annotations

import time

from edgelstm.errors import SourceError
from edgelstm_bridge.links.link import Chunk, Link, LinkLost
from edgelstm_bridge.links.socket_link import CONNECT_TIMEOUT_S, open_socket
from edgelstm_bridge.links.telnet import ComPortClient
from edgelstm_bridge.urls import SourceUrl


class Rfc2217Link(Link):
    """The data in the Telnet stream of another link.

    Args:
        connection: to the server, just opened; it is closed with this link.
        baud_rate: what the server shall set; None leaves the port as it is.

    Raises:
        SourceError: the server speaks no RFC 2217 or refuses the baud rate.
    """

    can_write = True

    def __init__(self, connection: Link, baud_rate: int | None) -> None:
        self.description = connection.description
        self._connection = connection
        self._telnet = ComPortClient(baud_rate)
        self._early: Chunk | None = None
        try:
            self._agree()
        except LinkLost as error:
            raise SourceError(self._no_server()) from error
        granted = self._telnet.server_rate
        if baud_rate is not None and granted != baud_rate:
            raise SourceError(
                f"The server at {self.description} sets {granted} baud instead of {baud_rate}: "
                "set the device to a baud rate that this port can do."
            )

    def read(self, timeout: float) -> Chunk | None:
        """Waits for data and returns all that is there; see `Link.read`."""
        if self._early is not None:
            early, self._early = self._early, None
            return early
        deadline = time.monotonic() + timeout
        while True:
            chunk = self._connection.read(max(0.0, deadline - time.monotonic()))
            if chunk is None:
                return None
            data = self._take(chunk)
            if data:
                return chunk._replace(data=data)

    def write(self, data: bytes) -> None:
        """Sends data; see `Link.write`."""
        self._connection.write(self._telnet.escape(data))

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _agree(self) -> None:
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        self._connection.write(self._telnet.requests())
        while not self._telnet.is_ready:
            chunk = self._connection.read(max(0.0, deadline - time.monotonic()))
            if self._telnet.is_refused or (chunk is None and time.monotonic() >= deadline):
                raise SourceError(self._no_server())
            data = self._take(chunk) if chunk else b""
            if chunk and data:
                before = self._early.data if self._early else b""
                self._early = chunk._replace(data=before + data)

    def _take(self, chunk: Chunk) -> bytes:
        data, answers = self._telnet.receive(chunk.data)
        if answers:
            self._connection.write(answers)
        return data

    def _no_server(self) -> str:
        plain = self.description.replace("rfc2217://", "socket://")
        return (
            f"The server at {self.description} does not speak RFC 2217: for a plain TCP port "
            f"take {plain}"
        )


def open_rfc2217(url: SourceUrl) -> Link:
    """Connects to the server of `url` and sets the port behind it to 8N1 at its baud rate.

    Raises:
        SourceError: nobody answers there, or nobody who speaks RFC 2217.
    """
    connection = open_socket(url)
    try:
        return Rfc2217Link(connection, url.baud_rate)
    except BaseException:
        connection.close()
        raise
