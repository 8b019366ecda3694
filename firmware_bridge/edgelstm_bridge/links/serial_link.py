"""A serial port as a link."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import termios

import serial

from edgelstm.errors import SourceError
from edgelstm_bridge.links.descriptor import DescriptorLink
from edgelstm_bridge.links.link import Link
from edgelstm_bridge.links.port_choice import find_usb_port, present_ports
from edgelstm_bridge.urls import SourceUrl

DEFAULT_BAUD_RATE = 115_200

_NOT_A_TERMINAL = os.strerror(errno.ENOTTY)
_PTY_MAJORS = range(136, 144)  # Linux: the ends of ptys that programs open
_CONTROL_FLAGS, _CONTROL_CHARACTERS = 2, 6  # places in what termios.tcgetattr returns


class _Port(serial.Serial):
    """A port that keeps what came since it was opened: a device may well send before a start."""

    def _reset_input_buffer(self) -> None:
        """Called by pyserial when it opens a port."""


def open_serial(url: SourceUrl) -> Link:
    """Opens a serial port for this process alone, without a reset of its board if that can be.

    Args:
        url: with the path of a port, or with what its USB device is known by.

    Raises:
        SourceError: no port fits, or it cannot be opened.
    """
    path = url.path if url.usb is None else find_usb_port(url.usb)
    try:
        port = _Port(
            path,
            baudrate=url.baud_rate or DEFAULT_BAUD_RATE,
            timeout=0,
            exclusive=True,  # two readers would each get half of the bytes
        )
    except (OSError, ValueError, termios.error) as error:
        raise SourceError(_why_not_opened(path, error)) from error
    try:
        return _link(port, path)
    except (OSError, termios.error) as error:
        port.close()
        raise SourceError(_why_not_opened(path, error)) from error


def _link(port: serial.Serial, path: str) -> Link:
    descriptor = port.fileno()
    attributes = termios.tcgetattr(descriptor)
    # The kernel drops DTR at the last close and raises it at the next open, which resets many
    # boards: it shall leave DTR where it is.
    attributes[_CONTROL_FLAGS] &= ~termios.HUPCL
    # A read of nothing is then the end of the port, never an empty buffer.
    attributes[_CONTROL_CHARACTERS][termios.VMIN] = 1
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    with contextlib.suppress(OSError, ValueError, AttributeError, NotImplementedError):
        port.set_low_latency_mode(True)  # many ports, and all ptys, have none
    # pyserial's lock binds those who ask for it; this one binds every program but root's. A pty
    # lives on in its other end: a reader that is killed would leave it locked for ever.
    is_pty = _is_pty(descriptor)
    if not is_pty:
        fcntl.ioctl(descriptor, termios.TIOCEXCL)

    def close() -> None:
        with contextlib.suppress(OSError, termios.error):
            if link.is_stuck:  # or the kernel would wait half a minute for it to be taken
                termios.tcflush(descriptor, termios.TCOFLUSH)
            if not is_pty:
                fcntl.ioctl(descriptor, termios.TIOCNXCL)
        port.close()

    link = DescriptorLink(descriptor, path, close=close, can_write=True, can_wait=is_pty)
    return link


def _is_pty(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTY_MAJORS


def _why_not_opened(path: str, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        reason = "there is no such port"
    elif number in (errno.EACCES, errno.EPERM):
        reason = "permission denied; `edgelstm ports` says how to mend that"
    elif number in (errno.EBUSY, errno.EAGAIN):
        reason = "another program is using it"
    # pyserial drops the number of some.
    elif number in (errno.ENOTTY, errno.EISDIR) or _NOT_A_TERMINAL in str(error):
        reason = "it is not a serial port"
    else:
        reason = str(error)
    present = present_ports()
    hint = f" (serial ports present: {present})" if present else ""
    return f"Cannot open {path}: {reason}{hint}."
