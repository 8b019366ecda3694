"""Names of hosts: in settings, and in what those who ask a server send."""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach a server on that host; names but localhost are not."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(header: str) -> str | None:
    """The name in a `Host` header, in lower case and without port; None if it is none."""
    match = _HOST.fullmatch(header)
    return match[1].lower() if match else None
