"""The TFLite runtimes: which wheels there are of each, by architecture, and what they need."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal, get_args

from edgelstm.errors import ConfigurationError
from edgelstm_devices.profile_file import read_dataclass

Architecture = Literal["aarch64", "armv7l", "x86_64"]
"""Of the Python of a device: a 32-bit system on a 64-bit kernel is "armv7l"; uname says aarch64."""

ARCHITECTURES: tuple[str, ...] = get_args(Architecture)

_CLAUSE = re.compile(r"(>=|<=|==|<|>)(\d+(?:\.\d+)*)")


@dataclass(frozen=True)
class Runtime:
    """A TFLite runtime on an architecture.

    Attributes:
        package: its Python package, such as "ai-edge-litert".
        architecture: of the Python that runs it.
        version: that the figures are of.
        python: the versions of Python that edgelstm and its wheels work with, ">=3.11,<3.15".
        numpy: the versions of numpy that it works with, such as "<2".
        glibc: the least version of the C library that its wheels run with, such as "2.27".
        tags: platform tags of its wheels, such as "manylinux_2_27_aarch64".
        extra: of edgelstm, which brings it; "" when edgelstm brings it by itself.
        index: that pip needs besides PyPI for what it depends on; "" for none.
        debian: Debian's packages that must be there for what it depends on.
        note: what else to know.
        sources: where each figure is from, by its name.
    """

    package: str
    architecture: Architecture
    version: str
    python: str
    numpy: str
    glibc: str
    tags: tuple[str, ...]
    extra: str = ""
    index: str = ""
    debian: tuple[str, ...] = ()
    note: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def requirement(self) -> str:
        """What pip installs to have edgelstm with it."""
        return f"edgelstm[{self.extra}]" if self.extra else "edgelstm"

    def takes_python(self, version: str) -> bool:
        """Whether it works with a version of Python, such as "3.11.2"."""
        return satisfies(version, self.python)

    def takes_glibc(self, version: str) -> bool:
        """Whether its wheels run with a version of the GNU C library, such as "2.36"."""
        return satisfies(version, f">={self.glibc}")


def satisfies(version: str, limits: str) -> bool:
    """Whether a version is within limits, as far as these are precise: 3.11.2 is "==3.11".

    Args:
        version: numbers and dots; what follows them, as in "3.13.0rc1", is left out of account.
        limits: with commas between them, such as ">=3.11,<3.15".

    Raises:
        ConfigurationError: one of the two is not such.
    """
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    if not numbers:
        raise ConfigurationError(f"{version!r} is no version; it must be such as '3.11.2'.")
    return all(_holds(numbers[0], clause.strip(), limits) for clause in limits.split(","))


def _holds(version: str, clause: str, limits: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if not match:
        raise ConfigurationError(
            f"{limits!r} limits no version; it must be such as '>=3.11,<3.15'."
        )
    asked = tuple(map(int, match[2].split(".")))
    given = tuple(map(int, version.split(".")))
    given = (*given, *(0,) * (len(asked) - len(given)))[: len(asked)]
    return {
        ">=": given >= asked,
        "<=": given <= asked,
        "==": given == asked,
        "<": given < asked,
        ">": given > asked,
    }[match[1]]


@dataclass(frozen=True)
class _File:
    runtimes: tuple[Runtime, ...]


@functools.cache
def load_runtimes() -> Mapping[tuple[str, str], Runtime]:
    """Every runtime, by its package and the architecture.

    Raises:
        ConfigurationError: the file of runtimes has a mistake.
    """
    file = resources.files("edgelstm_devices") / "runtimes.toml"
    runtimes = read_dataclass(_File, file.read_bytes(), "runtimes.toml").runtimes
    return {(each.package, each.architecture): each for each in runtimes}
