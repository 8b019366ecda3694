"""Files of an installation: whole or not there, and readable whatever the umask is.

A name appears only after what it names has reached the disk (fsync, rename, fsync of the folder),
so that neither a process that is killed nor a power cut leaves half of anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .context import AgentError, Context

FOLDER, FILE, FIXED_FILE = 0o755, 0o644, 0o444
"""Modes: everybody may read, for the service is another user than who writes."""
LOCK_FILE = 0o600
"""But for locks: whoever may open a file for reading may lock it, and so keep deployments out."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PATIENCE_S = 900.0  # another deployment may be installing packages on a slow device
_POLL_S = 0.2


def is_full(error: OSError) -> bool:
    """Whether an error says that the disk, or what a user may have of it, is used up."""
    return error.errno in _FULL


def full(folder: Path) -> AgentError:
    """What is said of a full disk."""
    return AgentError(
        f"The device's disk is full ({free_bytes(folder) / 1e6:,.0f} MB left in {folder}); make "
        "room and deploy again; what runs there was left alone."
    )


def free_bytes(folder: Path) -> int:
    """What may still be written in a folder, or where it would be made."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@contextmanager
def in_words(folder: Path) -> Iterator[None]:
    """Makes an `AgentError` of an error of the system about files in a folder.

    Raises:
        AgentError: the block had an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full(folder) from error
        where = error.filename2 or error.filename or folder
        if error.errno == errno.EROFS:
            raise AgentError(
                f"The device may not write to {where}, which is mounted read-only; mount it "
                "writable (on Raspberry Pi OS: raspi-config, Performance, Overlay File System) and "
                "deploy again."
            ) from error
        if isinstance(error, PermissionError):
            raise AgentError(
                f"The device does not let the user {os.geteuid()} write to {where}; deploy as one "
                "who may use sudo, or with --user."
            ) from error
        raise AgentError(
            f"The device has trouble with {where}: {error.strerror or error}; mend that and deploy "
            "again."
        ) from error


def sync(path: Path) -> None:
    """Has the content of a file, or the names in a folder, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = FOLDER) -> None:
    """Makes a folder and those that it is in; one that is there stays as it is."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
        path.chmod(mode)
        sync(path.parent)


def write_file(path: Path, content: bytes, mode: int = FILE) -> None:
    """Writes a file; one that is there is replaced at once."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def remove_tree(path: Path) -> None:
    """Removes a folder with everything in it, also what is not to be written; or a file."""
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError):
            path.unlink()
        return

    def again(function: Any, name: str, why: Any) -> None:
        if not os.path.lexists(name):
            return
        # Modes are nothing to root, who must not follow paths through what another user may change.
        if os.geteuid() == 0:
            raise why[1]
        # Its own user may not take a file out of a folder that is not to be written.
        for folder in (Path(name).parent, Path(name)):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IRWXU)
        if function in (os.unlink, os.rmdir):
            function(name)
        else:
            remove_tree(Path(name))

    shutil.rmtree(path, onerror=again)


def remove_at_once(path: Path) -> None:
    """Removes a folder so that no half of it ever goes by its name."""
    if os.path.lexists(path):
        gone = path.with_name(f".{path.name}.gone")
        remove_tree(gone)
        path.rename(gone)
        sync(path.parent)
        remove_tree(gone)


@contextmanager
def locked(path: Path, context: Context) -> Iterator[int]:
    """Keeps every other deployment out, which may be another laptop's.

    Args:
        path: of a file, which is made.
        context: of the caller, who is told of a wait.

    Yields:
        A descriptor. A process that inherits it holds the lock, too, until it ends.

    Raises:
        AgentError: it took too long, or the caller went away.
    """
    stop, told = time.monotonic() + _PATIENCE_S, False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, LOCK_FILE)
        try:
            if _lock(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)
        if not told:
            context.event(what="waiting", why="another deployment to this device")
            told = True
        if not context.alive():
            raise gone()
        if time.monotonic() > stop:
            raise AgentError(
                "Another deployment to this device has gone on for "
                f"{_PATIENCE_S / 60:.0f} minutes; wait for its end, or reboot the device."
            )
        time.sleep(_POLL_S)


def _lock(descriptor: int, path: Path) -> bool:
    """Locks a file, unless somebody else has, or it is no longer that of the name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def gone() -> AgentError:
    """What is said, if to nobody, when the caller went away."""
    return AgentError("The laptop went away, so the deployment was given up; deploy again.")
