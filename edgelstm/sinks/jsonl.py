"""Alerts as JSON lines, for programs and for the record."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgelstm.errors import ConfigurationError, SinkError
from edgelstm.notice import Notice
from edgelstm.sinks import Sink, SinkContext
from edgelstm.sinks.templates import dump

_MEGA = 1_000_000


@dataclass(frozen=True)
class JsonlConfig:
    """Options of the sink "jsonl".

    Raises:
        ConfigurationError: a bound makes no sense.
    """

    path: Path = field(
        metadata={"help": "The file; what is in it stays.", "example": "alerts.jsonl"}
    )
    max_megabytes: float = field(
        default=10.0,
        metadata={"help": "A file that would be larger is put by; 0 for no bound.", "least": 0},
    )
    keep: int = field(
        default=5,
        metadata={
            "help": "How many files are put by: PATH.1 is the last of them.",
            "least": 0,
            "most": 1000,
        },
    )

    def __post_init__(self) -> None:
        if not 0 <= self.max_megabytes < float("inf"):
            raise ConfigurationError(
                f"'max_megabytes' is {self.max_megabytes:g}; it must be 0 or more."
            )
        if not 0 <= self.keep <= 1000:
            raise ConfigurationError(f"'keep' is {self.keep}; it must be from 0 to 1000.")


class JsonlSink(Sink):
    """Appends a JSON object to a file for each notice, and has it on the disk before it returns.

    The object is `Notice.to_dict()`; `docs/alerts.md` has its fields. Another program may rename
    or delete the file at any time (logrotate): the next line goes to a new one. A line that a
    loss of power cut off stays, and the next begins on a line of its own.

    Args:
        config: its options.
        context: says what a relative path is relative to.
    """

    Config = JsonlConfig

    def __init__(self, config: JsonlConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._path = context.directory / config.path.expanduser()
        self._limit = config.max_megabytes * _MEGA
        self._keep = config.keep
        self._file: int | None = None

    def open(self) -> None:
        """Opens the file, unless it is open; `send` does so, too.

        Raises:
            SinkError: it cannot be opened for writing.
        """
        with self._guard():
            self._current()

    def send(self, notice: Notice) -> None:
        """Appends the notice.

        Raises:
            SinkError: the file cannot be written.
        """
        line = dump(notice.to_dict()) + b"\n"
        with self._guard():
            file = self._current()
            size = os.fstat(file).st_size
            if self._limit and size and size + len(line) > self._limit:
                self._rotate()
                file = self._current()
            _append(file, line)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _current(self) -> int:
        """The descriptor of the file that has the name now."""
        if self._file is not None:
            mine = os.fstat(self._file)
            try:
                named = self._path.stat()
            except FileNotFoundError:
                named = None
            if named is not None and (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                return self._file
            self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o666)
        self._sync_folder()  # a name that is not on the disk is no file
        return self._file

    def _rotate(self) -> None:
        """PATH becomes PATH.1, PATH.1 becomes PATH.2, and the oldest goes."""
        self.close()
        if self._keep == 0:
            self._path.unlink(missing_ok=True)
            return
        for number in range(self._keep, 0, -1):
            source = self._put_by(number - 1) if number > 1 else self._path
            if source.exists():
                source.replace(self._put_by(number))

    def _put_by(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            raise SinkError(
                f"The alerts cannot be written to {self._path} ({error.strerror}); see to its disk "
                "and its folder."
            ) from error


def _append(file: int, line: bytes) -> None:
    """Writes a line as a whole, or leaves the file as it was; then it is on the disk."""
    fcntl.flock(file, fcntl.LOCK_EX)  # another process may append to the same file
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        data = b"\n" + line if torn else line
        try:
            written = os.write(file, data)
            while written < len(data):  # a disk that fills up takes a part first
                written += os.write(file, data[written:])
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
