"""`Guess`: how well one kind of format fits the first lines of a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgelstm_bridge.formats.cells import name_complaint
from edgelstm_bridge.formats.errors import FormatError, shown
from edgelstm_bridge.formats.format import Format
from edgelstm_bridge.messages import MAX_CHANNELS


@dataclass(frozen=True, slots=True)
class Sample:
    """The first lines of a device.

    Attributes:
        lines: text, without checksums.
        first_row: the index of the first line that is whole for sure; a header row may come
            before it.
    """

    lines: Sequence[bytes]
    first_row: int


@dataclass(frozen=True, slots=True)
class Guess:
    """One way to read the lines.

    Attributes:
        option: what the `--format` option would say.
        good: the indices of the lines that parse alike.
        resembling: how many lines look like data of this kind; not fewer than `good`.
        numbers: how many numbers a good line has.
        doubt: why it may be wrong all the same, as a part of a sentence; empty when it is clear.
        build: gives the format; raises `FormatError` when the names do not allow it.
    """

    option: str
    good: tuple[int, ...]
    resembling: int
    numbers: int
    doubt: str
    build: Callable[[], Format]


def choose_channels(wanted: Format, present: Sequence[str], line: bytes) -> tuple[str, ...]:
    """The channels: those that the user named, or else all that are there.

    Args:
        wanted: what the user said.
        present: the names of columns with numbers that are not the time.
        line: one of the lines, for messages.

    Raises:
        FormatError: a named one is not there, or the names cannot be used.
    """
    channels = wanted.channels or tuple(present)
    for name in wanted.channels or ():
        if name not in present:
            raise FormatError(
                f"The device sends no numbers called {name!r}, only "
                f"{', '.join(present) or 'text'}; choose among these in --format "
                f"{wanted.kind}:channels=NAME+NAME."
            )
    refuse_names(channels, wanted, line)
    return channels


def refuse_names(
    names: Sequence[str], wanted: Format, line: bytes, most: int | None = MAX_CHANNELS
) -> None:
    """Refuses names that cannot be those of channels.

    Args:
        names: of channels, or of all columns.
        wanted: what the user said.
        line: one of the lines, for messages.
        most: how many there may be; None: any number.

    Raises:
        FormatError: they cannot.
    """
    complaint = name_complaint(names, most)
    if complaint:
        way_out = "header=no,channels=NAME+NAME" if wanted.kind == "csv" else "channels=NAME+NAME"
        raise FormatError(
            f"The device sends lines such as {shown(line)}, in which {complaint}; change what it "
            f"sends, or name what is wanted with --format {wanted.kind}:{way_out}."
        )
