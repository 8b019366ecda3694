"""`VirtualTextDevice`: a virtual device whose firmware prints lines of text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgelstm.errors import ConfigurationError, ProtocolError
from edgelstm_bridge.faults import Faults
from edgelstm_bridge.pacing import Pacer, Row, RowQueue
from edgelstm_bridge.port_device import PortDevice
from edgelstm_bridge.virtual_firmware import Firmware

_DELIMITERS = {"csv": ",", "semicolon": ";", "tab": "\t"}
_PAIRS = {"label": (":", ","), "keyvalue": ("=", " ")}
TEXT_FORMATS = (*_DELIMITERS, *_PAIRS, "json")
"""csv, semicolon and tab: a header and rows; label: `a:1,b:2`; keyvalue: `a=1 b=2`; json: lines."""

_END = "\r\n"  # as Serial.println has it
_UNFIT = re.compile(r"[\s,;:=|*\"'{}\[\]]+")


class TextFirmware(Firmware):
    """Firmware that prints a line for each row, and listens to nothing.

    Args:
        channels: names; what would break a line becomes `_`.
        text_format: one of `TEXT_FORMATS`.
        boot_message: a line that comes first at each boot.
        pacer: of the rows.

    Raises:
        ConfigurationError: the format is unknown, or two channels have the same name.
    """

    filler = b"\n"

    def __init__(
        self, channels: Sequence[str], text_format: str, boot_message: str | None, pacer: Pacer
    ) -> None:
        super().__init__()
        names = [_UNFIT.sub("_", name.strip()) for name in channels]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"Two channels would have the same name in a line: {', '.join(names)}; rename one."
            )
        self._count = len(names)
        self._line = _line_of(names, text_format)
        self._pacer = pacer
        heading = [] if boot_message is None else [boot_message]
        if text_format in _DELIMITERS:
            heading.append(_DELIMITERS[text_format].join(names))
        self._heading = [(line + _END).encode() for line in heading]

    def boot(self) -> list[bytes]:
        """Returns the boot message and the header, as far as there are any."""
        self.running = self.heard
        self._pacer.resume(time.monotonic())
        return list(self._heading)

    def opened(self) -> None:
        """Begins to print: a reader is there."""
        if not self.running:
            self._pacer.resume(time.monotonic())
        self.running = self.heard = True

    def receive(self, data: bytes) -> list[bytes]:  # noqa: ARG002
        """Answers nothing."""
        return []

    def make(self, rows: Sequence[Row]) -> list[bytes]:
        """Returns the lines of the next rows.

        Raises:
            ProtocolError: a row does not have one value per channel.
        """
        lines = []
        for _, values in rows:
            if len(values) != self._count:
                raise ProtocolError(
                    f"a row of {len(values)} values from a device with {self._count} channels"
                )
            lines.append((self._line(values) + _END).encode())
        return lines

    def damage(self, frame: bytes) -> bytes:
        """Returns the line with its first character made no text."""
        return bytes([frame[0] ^ 0x80]) + frame[1:]

    def skip(self, count: int, *, overrun: bool) -> None:
        """Lines have no numbers."""

    def rewind(self, count: int) -> None:
        """Lines have no numbers."""

    def end(self) -> list[bytes]:
        """Stops without a word."""
        self.running = False
        self.ended = True
        return []


class VirtualTextDevice(PortDevice):
    """A pseudo-terminal that behaves like a serial port to firmware that prints text.

    It prints its boot message and its header once a reader opens the port, and then its rows. Its
    `damage` makes a line that is no text; noise may change a number so that nobody can tell.

    Args:
        channels: names.
        text_format: one of `TEXT_FORMATS`.
        boot_message: a line that comes first at each boot.
        link: as for `PortDevice`, and so are the others.
        faults: what goes wrong by itself.
        powered: what a device at a pace does while it is unplugged.

    Raises:
        ConfigurationError: the format is unknown, or two channels have the same name.
        SourceError: as for `PortDevice`.
    """

    def __init__(
        self,
        channels: Sequence[str],
        text_format: str = "csv",
        *,
        boot_message: str | None = None,
        link: Path | None = None,
        faults: Faults | None = None,
        powered: bool = False,
    ) -> None:
        self._channels = tuple(channels)
        self._format = text_format
        self._boot_message = boot_message
        TextFirmware(
            channels, text_format, boot_message, Pacer(None, 0.0)
        )  # refused before a port is
        super().__init__(link=link, faults=faults, powered=powered)

    def _firmware(self, queue: RowQueue, pacer: Pacer) -> TextFirmware:  # noqa: ARG002
        return TextFirmware(self._channels, self._format, self._boot_message, pacer)


def _line_of(names: Sequence[str], text_format: str) -> Callable[[Sequence[float]], str]:
    """Returns what makes a line of values; numbers are written so that they read back exactly."""
    if text_format in _DELIMITERS:
        delimiter = _DELIMITERS[text_format]
        return lambda values: delimiter.join(map(repr, values))
    if text_format in _PAIRS:
        equals, comma = _PAIRS[text_format]
        heads = [f"{name}{equals}" for name in names]
        return lambda values: comma.join(
            [head + repr(value) for head, value in zip(heads, values, strict=True)]
        )
    if text_format == "json":
        encode = json.JSONEncoder(separators=(",", ":")).encode
        return lambda values: encode(dict(zip(names, values, strict=True)))
    raise ConfigurationError(
        f"{text_format!r} is no text format of a virtual device; it has {', '.join(TEXT_FORMATS)}."
    )
