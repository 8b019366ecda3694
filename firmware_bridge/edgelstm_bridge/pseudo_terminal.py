"""`PseudoPort`: a serial port without hardware that can be unplugged. Linux."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import tty
from pathlib import Path

from edgelstm.errors import SourceError

_INT = struct.Struct("i")
# The reader's end holds 4095 bytes; up to 64 KiB queue up for it in front of that, unseen.
_VISIBLE = 4000
_LARGEST_QUEUE = 70_000


class PseudoPort:
    """The device's end of a pseudo-terminal, and a symbolic link to the reader's end.

    It begins plugged in. While it is not, there is neither port nor link.

    Args:
        link: a symbolic link to keep to the port; None for none.

    Attributes:
        path: of the reader's end; empty while unplugged, because that name may soon be the one
            of any other program's terminal.
        master: the descriptor of the device's end; None while unplugged.

    Raises:
        SourceError: the link exists and is not a symbolic link, or cannot be made.
    """

    def __init__(self, link: Path | None = None) -> None:
        self._link = link
        self.path = ""
        self.master: int | None = None
        self._unproven = 0  # bytes written since everything was certainly taken
        self.plug()

    def plug(self) -> None:
        """Makes a new pseudo-terminal and turns the link to it; does nothing when plugged in.

        Raises:
            SourceError: the link cannot be made.
        """
        if self.master is not None:
            return
        master, slave = os.openpty()
        os.set_blocking(master, False)
        tty.setraw(slave)
        path = os.ttyname(slave)
        # Once the port was open and is no more, poll reports a hang-up until a reader opens it.
        os.close(slave)
        if self._link is not None:
            try:
                _make_link(self._link, path)
            except BaseException:
                os.close(master)
                raise
        self.path, self.master = path, master
        self._unproven = 0

    def unplug(self) -> None:
        """Takes the port and the link away, with all that was not read.

        May be called more than once.
        """
        if self.master is None:
            return
        # The link goes first: the next terminal that anybody opens may get the same name. And
        # another device may have taken the link over by now.
        link = self._link
        if link is not None and link.is_symlink() and link.readlink() == Path(self.path):
            link.unlink()
        os.close(self.master)
        self.path, self.master = "", None

    def is_open(self) -> bool:
        """Whether a reader has the port open."""
        if self.master is None:
            return False
        poller = select.poll()
        poller.register(self.master, 0)
        return not poller.poll(0)

    def write(self, data: bytes | bytearray) -> int:
        """Writes what there is room for; returns how many bytes that was.

        Raises:
            OSError: there is no room, or the port is unplugged.
        """
        if self.master is None:
            raise OSError(errno.ENXIO, "the port is unplugged")
        count = os.write(self.master, data)
        self._unproven += count
        return count

    def is_drained(self, filler: bytes) -> bool:
        """Whether the reader has taken everything that was written, or there is no reader.

        May have to be asked some twenty times before it is certain. Linux moves what was written
        to the reader's end in the background, and stops while that is full; a reader that has
        emptied it is about to set this going again, but may not have done so yet. So each time
        that nothing seems to be there, a filler is written, which sets it going: what was stuck
        shows itself then, unless there is no more of it.

        Args:
            filler: a byte that means nothing to the reader.

        Raises:
            SourceError: the reader has the port for itself, even against a look at it.
        """
        if not self.is_open():
            return True
        if not self._seems_empty():
            return False
        if self._unproven <= _VISIBLE:  # as much as that is never stuck
            self._unproven = 0
            return True
        self._unproven = min(self._unproven, _LARGEST_QUEUE) - _VISIBLE
        with contextlib.suppress(BlockingIOError):
            self.write(filler)
        return False

    def _seems_empty(self) -> bool:
        """Whether nothing is at the reader's end, which is opened for a moment to see that."""
        try:
            slave = os.open(self.path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise SourceError(
                    f"Whether {self.path} was read to its end cannot be seen, because its reader "
                    "has locked it (TIOCEXCL); unplug it without draining, or run as root."
                ) from error
            raise
        try:
            # Poll waits for what is being moved at the moment; a look at the number would not.
            poller = select.poll()
            poller.register(slave, select.POLLIN)
            if poller.poll(0):
                return False
            waiting: int = _INT.unpack(fcntl.ioctl(slave, termios.FIONREAD, bytes(_INT.size)))[0]
            return not waiting
        finally:
            os.close(slave)


def _make_link(link: Path, target: str) -> None:
    """Makes the link, or turns the one that is there in one go."""
    if link.exists() and not link.is_symlink():
        raise SourceError(f"{link} exists and is not a symbolic link; choose another name.")
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
    except OSError as error:
        raise SourceError(f"Cannot make the link {link}: {error}.") from error
