"""`HealthFile`: a file that says how the service is, for those who cannot ask it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from edgelstm.health import Health
from edgelstm.health_data import describe

_LOG = logging.getLogger(__name__)
_EVERY_S = 2.0
_PATIENCE_S = 2.0  # at the end, for a health that does not come
_NAME = "health.json"


def health_file_of(environ: Mapping[str, str]) -> Path | None:
    """The file in what `RuntimeDirectory=` made (systemd.exec(5)); None without it.

    Args:
        environ: the environment.
    """
    # Several directories are divided by colons.
    directory = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(directory, _NAME) if directory else None


class HealthFile:
    """Replaces a file every two seconds, whole each time, from a thread of its own.

    Everybody on the computer may read it. A disk that does not take it is logged once, and tried
    again. Nothing is synced: the file is of no use after a crash, and its folder is in memory.

    Args:
        path: of the file.
        health: how the service is now; called from the thread.
    """

    def __init__(self, path: Path, health: Callable[[], Health]) -> None:
        self._path, self._health = path, health
        self._temporary = path.with_name(f".{path.name}")
        self._stop = threading.Event()
        self._told_failure = False
        self._thread = threading.Thread(target=self._run, name="health file", daemon=True)

    def start(self) -> None:
        """Writes it, and goes on writing it."""
        self._write()
        self._thread.start()

    def close(self) -> None:
        """Ends, and takes the file away: what it says is true no longer. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_S)
        self._remove()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._write()
        self._remove()  # also when `close` has not waited for it

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            text = json.dumps({"pid": os.getpid(), **describe(self._health())}) + "\n"
            self._replace(text.encode())
        except OSError as error:
            self._complain(f"{self._path} cannot be written: {error.strerror}.")
        except Exception as error:  # a bug, which must end neither the file nor the service
            self._complain(f"The health of the service could not be written down: {error!r}.")
        else:
            self._told_failure = False

    def _replace(self, content: bytes) -> None:
        try:
            self._temporary.write_bytes(content)
            self._temporary.chmod(0o644)  # whatever the umask
            self._temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            raise

    def _complain(self, what: str) -> None:
        if not self._told_failure:
            _LOG.warning("%s", what)
        self._told_failure = True
