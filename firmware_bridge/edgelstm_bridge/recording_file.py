"""`RecordingFile`: readings on their way to a CSV or Parquet file that is never half-written."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import re
import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Self

from edgelstm import files
from edgelstm.errors import ConfigurationError, OutputExistsError
from edgelstm.parquet_writing import need_pyarrow, write_parquet
from edgelstm.reading import Reading

_SUFFIXES = (".csv", ".parquet")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 10**11  # seconds since 1970: what a recording may hold
_BREAKS_CSV = re.compile(r"[\x00-\x1f\x7f,;|\"]+")


def check_recording_path(path: Path, *, force: bool) -> None:
    """Refuses a path that a recording cannot be written to, before anything is opened for it.

    Raises:
        OutputExistsError: it exists, or what a recording that was cut off has left beside it, and
            `force` is false.
        ConfigurationError: it ends neither in .csv nor in .parquet, or its folder cannot be
            written.
        MissingDependencyError: it is a Parquet file, and pyarrow is not installed.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigurationError(f"{path} ends neither in .csv nor in .parquet; name such a file.")
    files.check_output(path, force=force)
    part = part_path(path)
    if part.exists() and not force:
        raise OutputExistsError(
            f"{part} is what a recording that was cut off has left, in CSV; rename it to "
            f"{path.with_suffix('.csv').name} to keep it, or use --force to replace it."
        )
    if _is_parquet(path):
        need_pyarrow()


def part_path(path: Path) -> Path:
    """Where the rows are before the recording is complete."""
    return path.with_name(f"{path.name}.part")


def column_names(channels: Sequence[str]) -> list[str]:
    """The columns of channels: their names, but for what would not be read back as it was.

    Delimiters, quotes and line breaks become `_`; the second of two equal names gets a number.
    """
    taken = {"timestamp"}
    names = []
    for index, channel in enumerate(channels):
        plain = _BREAKS_CSV.sub("_", channel).strip() or f"channel_{index}"
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name)
        names.append(name)
    return names


class RecordingFile:
    """Takes readings, and makes a file of them that `edgelstm train` reads as it is.

    The columns are `timestamp`, ISO 8601 in UTC with microseconds, and one per channel, whose
    numbers read back exactly. Until `finish`, the rows are in a CSV file `FILE.part` beside the
    target; a thread moves them to the disk every `flush_interval`, so that a power cut costs no
    more than that and perhaps a part of the last line.

    A reading with a value that is no finite number, or a time beyond the calendar, is left out
    and counted: neither can be trained on, and its place shows in the times of the others.

    Args:
        path: of the file, ending in .csv or .parquet.
        channels: names, in the order of a reading's values.
        force: whether a file that exists may be replaced.
        flush_interval: in seconds.

    Attributes:
        path: as it was given.
        columns: names of the channels' columns.
        rows: readings taken.
        unusable: readings left out.

    Raises:
        EdgelstmError: as `check_recording_path` does, or another program is recording there.
        OSError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        channels: Sequence[str],
        *,
        force: bool = False,
        flush_interval: float = 1.0,
    ) -> None:
        check_recording_path(path, force=force)
        self.path = path
        self.columns = column_names(channels)
        self.rows = 0
        self.unusable = 0
        self._part = part_path(path)
        self._force = force
        self._second: int | None = None
        self._prefix = ""
        self._size = 0
        self._closed = False
        self._error: OSError | None = None
        self._pending: deque[str] = deque([_line(["timestamp", *self.columns])])
        self._stopping = threading.Event()
        self._file = _open_exclusively(self._part)
        self._thread = threading.Thread(
            target=self._keep_flushing, args=(flush_interval,), name=f"edgelstm {path}", daemon=True
        )
        self._flush()
        self._thread.start()

    def append(self, reading: Reading) -> bool:
        """Takes a reading; False when it is left out.

        Raises:
            OSError: an earlier one could not be written: the disk is full, or gone.
        """
        if self._error is not None:
            raise self._error
        values = reading.values
        try:
            # The sum of all is finite in most cases, and one test is quicker than one for each.
            if not isfinite(sum(values)) and not all(map(isfinite, values)):
                raise ValueError
            stamp = self._stamp(reading.timestamp)
        except (ValueError, OverflowError):
            self.unusable += 1
            return False
        try:
            cells = ",".join(map(float.__repr__, values))
        except TypeError:  # of whole numbers
            cells = ",".join(map(repr, map(float, values)))
        self._pending.append(f"{stamp},{cells}\n")
        self.rows += 1
        return True

    def finish(self) -> None:
        """Completes the file: everything that was taken is in it, and on the disk.

        Raises:
            OutputExistsError: somebody else has made the file meanwhile; the rows stay in
                `FILE.part`.
            OSError: it cannot be written; what could is in `FILE.part`.
        """
        self._stop()
        try:
            self._flush()
            if self._error is not None:
                raise self._error
            if self.path.exists() and not self._force:
                raise OutputExistsError(
                    f"{self.path} was made by somebody else meanwhile; this recording is in "
                    f"{self._part}."
                )
            if _is_parquet(self.path):
                write_parquet(self._part, self.path, ["timestamp", *self.columns])
                self._part.unlink()
            else:
                self._part.replace(self.path)
                _sync_folder(self.path.parent)
        finally:
            self.close()

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._part.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leaves what was not finished in `FILE.part`; may be called more than once."""
        self._stop()
        if not self._closed:
            self._flush()
            self._closed = True
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _stamp(self, timestamp: float) -> str:
        second, microsecond = divmod(round(timestamp * 1e6), 1_000_000)
        if second != self._second:
            if abs(second) > _LATEST:
                raise OverflowError
            moment = _EPOCH + timedelta(seconds=second)
            self._prefix = moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0")
            self._second = second
        return f"{self._prefix}{microsecond:06d}Z"

    def _keep_flushing(self, interval: float) -> None:
        while not self._stopping.wait(interval):
            self._flush()

    def _flush(self) -> None:
        """Moves what waits to the disk: whole lines, or none where there is no room for all."""
        if self._error is not None:
            return
        rows = [self._pending.popleft() for _ in range(len(self._pending))]
        try:
            if rows:
                data = "".join(rows).encode()
                written = 0
                while written < len(data):
                    written += os.write(self._file, data[written:])
                self._size += written
                os.fdatasync(self._file)
        except OSError as error:
            self._error = OSError(error.errno, error.strerror, str(self._part))
            os.ftruncate(self._file, self._size)

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join()


def _open_exclusively(part: Path) -> int:
    """The descriptor of an empty file that no other program is recording to."""
    file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
    except BlockingIOError as error:
        os.close(file)
        raise ConfigurationError(
            f"Another program is recording to {part}; stop it, or name another file."
        ) from error
    except OSError:
        os.close(file)
        raise
    return file


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
