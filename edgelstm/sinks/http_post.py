"""One POST over HTTP or HTTPS whose time is bounded as a whole, and which follows no redirect."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from edgelstm.errors import ConfigurationError, SinkError
from edgelstm.sinks.one_line import one_line
from edgelstm.sinks.trust import trusting

_TEXT_BYTES = 1000  # of an answer that are read


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: of HTTP.
        text: the beginning of the body of an answer that is no success.
        retry_after: the header of this name; "" without one.
        location: likewise, of a redirect, without what follows the host's name.
    """

    status: int
    text: str = ""
    retry_after: str = ""
    location: str = ""


@dataclass(frozen=True)
class Address:
    """Where to send to, taken apart.

    Attributes:
        secure: whether it is HTTPS.
        host: name or number.
        port: TCP.
        target: path and query, which may be secret.
    """

    secure: bool
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Takes a URL apart.

        Raises:
            ConfigurationError: it is none of HTTP or HTTPS. The message does not repeat it: it may
                be secret.
        """
        form = "'url' is not of the form https://host/path"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # its text has a part of the address
            raise ConfigurationError(f"{form}: see to its host and its port.") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{form}.")
        if parts.username is not None or parts.password is not None:
            raise ConfigurationError(
                "'url' has a user or a password in it; give them as the header Authorization."
            )
        if not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
            raise ConfigurationError(
                f"{form}: it has a blank or another sign that must be written as %20 and the like."
            )
        secure = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(secure, parts.hostname, port or (443 if secure else 80), target)

    def __str__(self) -> str:
        """What messages may show of it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


def post(
    address: Address,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,
    ca_file: Path | None = None,
) -> Answer:
    """Sends a body and waits for the status.

    Proxies are those of the environment (http_proxy, https_proxy, no_proxy). A redirect is
    answered like any other status: what was sent may be for this host only.

    Args:
        address: where to.
        body: what.
        headers: whose names occur once each.
        timeout: seconds for all of it. Only to look up the host's name may take longer, and to
            try several addresses of it so many times as long.
        ca_file: certificates of the authorities to trust, instead of the system's.

    Raises:
        SinkError: no answer came.
    """
    connection = _Connection(address, timeout, ca_file)
    try:
        all_headers = {**headers, **connection.more_headers}
        connection.request("POST", connection.target, body, all_headers)
        with connection.getresponse() as response:
            if connection.expired:  # a header that was cut off looks like one that has ended
                raise TimeoutError
            if 200 <= response.status < 300:
                return Answer(response.status)
            text = _beginning(response)
        return Answer(
            response.status,
            one_line(text),
            response.headers.get("Retry-After", ""),
            _host(response.headers.get("Location", "")),
        )
    except ssl.SSLCertVerificationError as error:
        raise SinkError(
            f"{address} has a certificate that is not trusted ({error.verify_message}); name its "
            "authority's certificate with ca_file, and the host as the certificate has it."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if connection.expired or isinstance(error, TimeoutError):
            raise SinkError(f"{address} has not answered within {timeout:g} s.") from error
        if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            kind = type(error).__name__
            raise SinkError(f"{address} does not answer as HTTP has it ({kind}).") from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SinkError(f"{address} cannot be reached ({reason}).") from error
    finally:
        connection.finish()


def _host(location: str) -> str:
    """Scheme and host of an address; "" where it has none."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return ""
    host = one_line(parts.netloc.rpartition("@")[2])
    return f"{parts.scheme}://{host}" if host and parts.scheme else host


def _beginning(response: http.client.HTTPResponse) -> str:
    """The beginning of a body, as far as it comes."""
    text = b""
    with contextlib.suppress(OSError, http.client.HTTPException):
        while len(text) < _TEXT_BYTES and (more := response.read1(_TEXT_BYTES)):
            text += more
    return text[:_TEXT_BYTES].decode("utf-8", "replace")


class _Connection(http.client.HTTPConnection):
    """A connection that is cut after a time, also while its server sends a byte now and then.

    The timeouts of sockets are of one call each, and begin again with each byte.
    """

    def __init__(self, address: Address, timeout: float, ca_file: Path | None) -> None:
        self.target = address.target
        self.more_headers: dict[str, str] = {}
        self.expired = False
        self._wire: socket.socket | None = None
        self._cut = threading.Timer(timeout, self._expire)
        self._cut.daemon = True
        self._name = address.host
        self._context = trusting(ca_file) if address.secure else None
        proxy = _proxy(address)
        if proxy is None:
            super().__init__(address.host, address.port, timeout=timeout)
        else:
            super().__init__(proxy.hostname or "", proxy.port or 80, timeout=timeout)
            if address.secure:
                self.set_tunnel(address.host, address.port, _credentials(proxy))
            else:
                self.target = f"{address}{address.target}"
                self.more_headers = _credentials(proxy)
        if address.secure:
            self.default_port = 443

    def connect(self) -> None:
        """Connects, through a proxy's tunnel if there is one, and agrees on the encryption."""
        self._cut.start()
        super().connect()
        if self._context is not None:
            self.sock = self._context.wrap_socket(
                self.sock, server_hostname=self._name, do_handshake_on_connect=False
            )
            self.sock.do_handshake()
        self._wire = self.sock
        if self.expired:
            raise TimeoutError

    def finish(self) -> None:
        """Closes it for good; `close` is also called when the answer only begins."""
        self._cut.cancel()
        self.close()

    def _expire(self) -> None:
        self.expired = True
        sock = self._wire or self.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown: that takes the encryption away under the other thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _proxy(address: Address) -> SplitResult | None:
    """The proxy of the environment for an address."""
    if urllib.request.proxy_bypass(address.host):
        return None
    scheme = "https" if address.secure else "http"
    url = urllib.request.getproxies().get(scheme)
    if not url:
        return None
    proxy = urlsplit(url if "://" in url else f"http://{url}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise SinkError(
            f"The proxy that the environment names for {scheme} is not of the form "
            f"http://host:port; mend {scheme}_proxy."
        )
    return proxy


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
