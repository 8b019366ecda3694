"""`Finding`: one thing that was looked at, and what to do where it is broken."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: the group it belongs to, such as "ports".
        name: of what was looked at, such as "/dev/ttyUSB0".
        level: "problem" for what keeps edgelstm from working, "note" for what may matter.
        what: was found, in a few words or a sentence.
        mend: a command that can be pasted, or a sentence; a problem always has one.
        data: the same as plain data, for programs.
    """

    section: str
    name: str
    level: Level
    what: str
    mend: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; every finding has the same keys."""
        return {
            "section": self.section,
            "name": self.name,
            "level": self.level,
            "what": self.what,
            "mend": self.mend,
            "data": dict(self.data),
        }


def pip(*arguments: str) -> str:
    """A command of pip's, for the Python that runs now."""
    return shlex.join([sys.executable, "-m", "pip", *arguments])


def pip_install(*arguments: str) -> str:
    """The command that has pip install something for the Python that runs now."""
    return pip("install", *arguments)
