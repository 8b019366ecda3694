"""Who may look at the page: hosts, tokens, cookies, and how often one may guess."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from edgelstm.secret import Secret

COOKIE_DAYS = 90
_GUESSES = 5
_GUESSES_S = 60.0
_MOST_ADDRESSES = 4096


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of this `Origin` was served by the `Host` that it now asks."""
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


class Keeper:
    """Lets those in who have the token, or a cookie that was given for it.

    The cookie is `EXPIRY.HMAC`, keyed with the token: it outlives a restart, and another token ends
    it. Whoever guesses wrong five times has to wait a minute, also with the right token.

    Args:
        token: None lets everybody in.
        clock: seconds since the Unix epoch.
    """

    def __init__(self, token: Secret | None, clock: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else token.reveal().encode()
        self._clock = clock
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    @property
    def needs_token(self) -> bool:
        """Whether not everybody is let in."""
        return self._token is not None

    def must_wait(self, address: str) -> bool:
        """Whether this address has guessed too often."""
        times = self._wrong.get(_network(address), [])
        return len([one for one in times if self._recent(one)]) >= _GUESSES

    def knows(self, token: str, address: str) -> bool:
        """Whether the token is right; ask `must_wait` before. A wrong one is counted."""
        if self._token is None:
            return True
        if hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token):
            return True
        times = self._wrong.setdefault(_network(address), [])
        times[:] = [*(one for one in times if self._recent(one)), self._clock()]
        self._wrong.move_to_end(_network(address))
        while len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)
        return False

    def cookie(self) -> str:
        """A new cookie for whoever had the token."""
        expiry = str(int(self._clock()) + COOKIE_DAYS * 86_400)
        return f"{expiry}.{self._signature(expiry)}"

    def accepts(self, cookie: str | None) -> bool:
        """Whether the cookie is one of ours and still good."""
        if self._token is None:
            return True
        expiry, _, signature = (cookie or "").partition(".")
        # Compared as bytes: a text that is not ASCII would raise.
        right = hmac.compare_digest(signature.encode(), self._signature(expiry).encode())
        return right and int(expiry) > self._clock()

    def _signature(self, expiry: str) -> str:
        text = f"edgelstm page, good until {expiry}"
        return hmac.new(self._token or b"", text.encode(), hashlib.sha256).hexdigest()

    def _recent(self, moment: float) -> bool:
        # A clock that was set back ends no wait early, and one set forward starts none.
        return abs(self._clock() - moment) < _GUESSES_S


def _network(address: str) -> str:
    """The address; of IPv6 the /64, which one computer has all of."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 4:
        return address
    return str(ipaddress.ip_network(f"{ip}/64", strict=False))
