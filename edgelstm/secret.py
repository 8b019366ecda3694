"""`Secret`: a password or a token that is never printed."""

from __future__ import annotations

import hmac
from typing import Any


class Secret:
    """A text that shows only when asked: in a traceback, a log or a message it is stars.

    Args:
        value: the text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for whoever has to send it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        # In the same time wherever they differ, so that nobody finds it letter by letter.
        return isinstance(other, Secret) and hmac.compare_digest(
            other._value.encode(errors="surrogatepass"), self._value.encode(errors="surrogatepass")
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> str:
        raise TypeError("A secret is not written anywhere.")
