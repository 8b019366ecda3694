"""Writing files so that nothing half-written is ever left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelstm.errors import ConfigurationError, OutputExistsError


def check_output(path: Path, *, force: bool, suffix: str = "") -> None:
    """Refuses a path that cannot be written, before any work is done for it.

    Args:
        path: of the file to write.
        force: whether a file that exists may be replaced.
        suffix: what the name must end in.

    Raises:
        OutputExistsError: the file exists and `force` is false.
        ConfigurationError: it has another suffix, it is a folder, a device or a pipe, or its folder
            does not exist or cannot be written.
    """
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; name a file in it.")
    if path.exists() and not path.is_file():  # to replace /dev/null would break the machine
        raise ConfigurationError(f"{path} is a device or a pipe; name an ordinary file.")
    if not path.parent.is_dir():
        raise ConfigurationError(f"The folder {path.parent} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigurationError(f"The folder {path.parent} may not be written by you.")
    if path.exists() and not force:
        raise OutputExistsError(f"{path} exists already; use --force to replace it.")
    if not path.name.endswith(suffix):
        raise ConfigurationError(f"{path} does not end in {suffix}; name a {suffix} file.")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; it takes the place of `path` when the block ends well.

    The data reaches the disk before the name does (fsync, rename, fsync of the folder). After an
    error neither the temporary file nor a change to `path` is left.

    Raises:
        OSError: the folder cannot be written.
    """
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent or Path()
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give the usual mode of a new file instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
