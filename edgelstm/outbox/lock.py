"""`OwnerLock`: one service at a time owns a state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edgelstm.errors import OutboxError


class OwnerLock:
    """Held from its making to `close`, or to the end of the process, however that comes.

    Args:
        path: of the lock file; it holds the owner's process id, and stays.

    Raises:
        OutboxError: another process holds it.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._descriptor, 20).decode(errors="replace").strip() or "unknown"
            self.close()
            raise OutboxError(
                f"Another service has the state directory {path.parent} (process {owner}): stop "
                "it, or give this one a directory of its own."
            ) from error
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # a full disk: the lock holds without a number in it

    def close(self) -> None:
        """Lets go; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
