"""`Problems`: collects what is wrong with a file, so that all of it is told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from edgelstm.configuration.locate import Key
from edgelstm.configuration.toml_text import format_key
from edgelstm.errors import ConfigurationError

_TOLD = 10


class Problems:
    """The mistakes in a file, each with its line.

    A text from the file is never repeated, only names are: it may be a password that stands in the
    wrong place.

    Args:
        shown: the file, as messages call it.
        lines: where its keys are, see `locate`.
    """

    def __init__(self, shown: str, lines: Mapping[Key, int]) -> None:
        self._shown, self._lines = shown, lines
        self._found: list[tuple[int, str]] = []

    def add(self, key: Key, sentence: str) -> None:
        """Takes note of a mistake.

        Args:
            key: where it is; of a key that is missing, its table.
            sentence: that says what it is, without where.
        """
        depths = range(len(key), 0, -1)
        line = next((self._lines[key[:n]] for n in depths if key[:n] in self._lines), 0)
        self._found.append((line, sentence))

    def about(self, key: Key, predicate: str) -> None:
        """Takes note of a mistake that is said of a key, such as "is empty"."""
        self.add(key, f"{format_key(key)} {predicate}{'' if predicate.endswith('?') else '.'}")

    def __len__(self) -> int:
        return len(self._found)

    def refuse(self) -> None:
        """Raises what was found, one sentence a line, in the order of the file.

        Raises:
            ConfigurationError: something was.
        """
        if not self._found:
            return
        found = sorted(self._found, key=lambda problem: problem[0])
        sentences = [
            f"{self._shown}{f', line {line}' if line else ''}: {sentence}"
            for line, sentence in found[:_TOLD]
        ]
        if len(found) > _TOLD:
            sentences.append(f"{self._shown} has {len(found) - _TOLD} more mistakes.")
        raise ConfigurationError("\n".join(sentences))


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant; "" when none is near."""
    folded = {each.casefold().replace("-", "_"): each for each in known}
    close = difflib.get_close_matches(name.casefold().replace("-", "_"), folded, 1)
    return folded[close[0]] if close else ""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`; did you mean 'x'?`, or what is to be said otherwise, with what ends the sentence."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else f"{otherwise}."
