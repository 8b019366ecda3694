"""A test program on the host that answers one line to one line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_END_TIMEOUT_S = 30


class HostProcess:
    """Runs until it is closed; a sanitizer that finds something ends it with an error."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            _, complaints = self._process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        if exc is None:
            assert self._process.returncode == 0, complaints.decode()

    def ask(self, *words: object, raw: bytes = b"") -> str:
        """Send words on a line, and bytes after it; return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(word, words)).encode() + b"\n" + raw)
        self._process.stdin.flush()
        line = self._process.stdout.readline().decode()
        if not line.endswith("\n"):
            _, complaints = self._process.communicate()
            raise AssertionError(complaints.decode())
        return line.rstrip("\n")


def word(value: object) -> str:
    return (value.hex() or "-") if isinstance(value, bytes) else str(value)
