"""Whether pip would reach its index from here."""

from __future__ import annotations

import configparser
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from .machine import Machine

_DEFAULT = "https://pypi.org/simple"
_PATIENCE_S = 3.0
_BROKEN = 500  # what a server answers from here on is no refusal, but a fault


def index(machine: Machine) -> dict[str, Any]:
    """The host of pip's index, whether it answers, and if not why."""
    url = index_url(machine)
    parts = urlsplit(url)
    # Without the login that the URL may have: a refusal is an answer, too.
    host = parts.netloc.rpartition("@")[2]
    try:
        request = urllib.request.Request(  # noqa: S310  # what pip would open
            f"{parts.scheme}://{host}{parts.path.rstrip('/')}/pip/", method="HEAD"
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_S):  # noqa: S310
            return {"host": host, "reachable": True, "reason": ""}
    except urllib.error.HTTPError as error:
        error.close()
        broken = error.code >= _BROKEN
        return {"host": host, "reachable": not broken, "reason": str(error) if broken else ""}
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return {"host": host, "reachable": False, "reason": str(reason)}


def index_url(machine: Machine) -> str:
    """The index that pip takes: of the environment, the user or the machine, in this order."""
    home = machine.environ.get("HOME", "/root")
    settings = machine.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    if machine.environ.get("PIP_INDEX_URL"):
        return machine.environ["PIP_INDEX_URL"]
    for name in (f"{settings}/pip/pip.conf", f"{home}/.pip/pip.conf", "/etc/pip.conf"):
        # A value may have a per cent sign, which is nothing special to pip.
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(machine.read(name))
        except configparser.Error:
            continue
        for section in ("install", "global"):
            url = parser.get(section, "index-url", fallback="")
            if url:
                return url
    return _DEFAULT
