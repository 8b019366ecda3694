"""How long work tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the steps done and the steps in all."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """The `Progress` that tells nobody."""
