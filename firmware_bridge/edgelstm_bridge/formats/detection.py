"""Detection: which text format the first bytes of a device are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from edgelstm_bridge.formats.checksum import without_checksum
from edgelstm_bridge.formats.delimited_guess import guess_delimited
from edgelstm_bridge.formats.errors import FormatError, TooFewLinesError, shown
from edgelstm_bridge.formats.format import KINDS, Format, Kind
from edgelstm_bridge.formats.guess import Guess, Sample
from edgelstm_bridge.formats.lines import BOM, LineSplitter, to_text
from edgelstm_bridge.formats.named_guess import guess_json, guess_pairs

MIN_LINES = 3
_MOST_BYTES = 65536
_FEWEST_ALIKE = 0.6  # share of the lines that look like data
_FEWEST_CHECKSUMS = 0.6
_HOPELESS = 10  # lines came, per line that is needed, and none is good: more will not help
_RIVAL = 0.5  # lines in another format, per line in the best, that make it unclear

_GUESSERS: dict[Kind, Callable[[Sample, Format], Iterator[Guess]]] = {
    "json": guess_json,
    "label": guess_pairs,
    "keyvalue": guess_pairs,
    "csv": guess_delimited,
}


def detect(
    data: bytes,
    wanted: Format | None = None,
    *,
    whole_start: bool = False,
    min_lines: int = MIN_LINES,
) -> Format:
    """The format of a device's lines, complete.

    Args:
        data: what came first, of about a second; nothing after its first 64 KiB is looked at.
        wanted: what the user said of it, `Format.parse` of the `--format` option; None: nothing.
        whole_start: as for `TextDecoder`.
        min_lines: how many lines have to parse alike.

    Raises:
        FormatError: the lines are in no format, or in more than one. `TooFewLinesError` when more
            of them may help.
    """
    if wanted is not None and wanted.complete:
        return wanted
    lines, is_whole = _lines(data[:_MOST_BYTES], whole_start)
    checked = _checked(lines)
    checksum = wanted.checksum if wanted else None
    if checksum is None:
        checksum = len(checked) >= _FEWEST_CHECKSUMS * max(1, _ending_in_star(lines), min_lines)
    if checksum:
        # Header rows and messages often have none.
        lines = [checked.get(i, line) for i, line in enumerate(lines)]
        lines = [line for line in lines if b"*" not in line[-3:]]
    sample = Sample(lines, 0 if is_whole else 1)
    guesses = [
        guess
        for kind, guesser in _GUESSERS.items()
        if wanted is None or wanted.kind == kind
        for guess in guesser(sample, wanted or Format(kind))
    ]
    if not guesses:
        raise _hopeless(lines, min_lines)
    # Of two ways to read the same lines, the one that finds more numbers in them.
    best = max(guesses, key=lambda guess: (len(guess.good), guess.numbers))
    _refuse_unclear(best, guesses, lines, min_lines)
    return replace(best.build(), checksum=checksum)


def _lines(data: bytes, whole_start: bool) -> tuple[list[bytes], bool]:
    """The lines that are text, and whether the first of them is whole.

    Raises:
        FormatError: there are none.
    """
    splitter = LineSplitter()
    pieces = splitter.feed(data.removeprefix(BOM))
    if not pieces:
        if not data:
            raise TooFewLinesError(
                "Nothing came from the device; is it the right port, and does it send by itself?"
            )
        raise _no_lines(data)
    is_whole = whole_start or not pieces[0].strip()
    lines = [piece for piece in pieces if piece.strip()]
    text = [line for line in lines if to_text(line) is not None]
    if 2 * len(text) < len(lines):
        raise _no_text(next(line for line in lines if to_text(line) is None))
    if lines and text[:1] != lines[:1]:
        is_whole = True  # the first line, which may be cut, is gone already
    return text, is_whole


def _checked(lines: Sequence[bytes]) -> dict[int, bytes]:
    """What the lines with a right checksum say, by their indices."""
    checked = {}
    for i, line in enumerate(lines):
        try:
            checked[i] = without_checksum(line)
        except ValueError:
            continue
    return checked


def _ending_in_star(lines: Sequence[bytes]) -> int:
    """How many lines look as if they ended in a checksum."""
    return sum(b"*" in line.rstrip()[-3:] for line in lines)


def _refuse_unclear(
    best: Guess, guesses: Sequence[Guess], lines: Sequence[bytes], min_lines: int
) -> None:
    """Refuses a guess that is not clear enough.

    Raises:
        FormatError: it is not.
    """
    line = lines[best.good[0]]
    if len(best.good) < min_lines:
        if len(lines) >= _HOPELESS * min_lines:
            raise _hopeless(lines, min_lines)
        raise TooFewLinesError(
            f"Only {len(best.good)} lines such as {shown(line)} came, too few to tell their format "
            f"(it takes {min_lines}); wait for more."
        )
    if len(best.good) < _FEWEST_ALIKE * best.resembling:
        raise FormatError(
            f"The device sends lines such as {shown(line)}, but only {len(best.good)} of "
            f"{best.resembling} lines have as many numbers; send all "
            "readings alike, or in --format json or label."
        )
    if best.doubt:
        raise FormatError(
            f"The device sends lines such as {shown(line)}, {best.doubt}; say which with "
            f"{_ways(best)}."
        )
    mine = set(best.good)
    for other in guesses:
        rest = set(other.good) - mine
        if len(rest) >= max(min_lines, _RIVAL * len(mine)):
            raise FormatError(
                f"The device sends lines such as {shown(line)} and {shown(lines[min(rest)])}; say "
                f"which to read with --format {best.option} or --format {other.option}."
            )


def _ways(guess: Guess) -> str:
    """The options between which the user has to choose."""
    if guess.option.endswith("decimal=comma"):
        return (
            f"--format {guess.option}, or let the device write 1.5 for 1,5 and one delimiter only"
        )
    return f"--format {guess.option} or --format csv:decimal=comma"


def _hopeless(lines: Sequence[bytes], min_lines: int) -> FormatError:
    if len(lines) <= min_lines:
        return TooFewLinesError(
            f"Only {len(lines)} whole lines came from the device, too few to tell their format (it "
            f"takes {min_lines}); wait for more."
        )
    return FormatError(
        f"The device sends lines such as {shown(lines[-1])}, which are no readings in a format "
        f"that edgelstm knows; say what they are with --format {'|'.join(KINDS)}, or change what "
        "the device sends."
    )


def _no_lines(data: bytes) -> FormatError:
    # The end may be cut in the middle of a character.
    if to_text(data[: len(data) // 2 * 2].rstrip(b"\x80-\xff")) is None:
        return _no_text(data)
    return TooFewLinesError(
        f"No line has ended in the {len(data)} bytes that came ({shown(data)}); the device has to "
        "end each reading with a newline (println)."
    )


def _no_text(data: bytes) -> FormatError:
    return FormatError(f"What the device sends is no text ({shown(data)}); is the baud rate right?")
