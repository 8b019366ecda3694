"""Packages of which the version is fixed, and the lists of what is installed on a device.

The lists have no markers, such as `python_version < "3.12"`: they would have to be judged for the
device, by which pip here only knows itself. There is a list for each runtime instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from edgelstm.errors import ConfigurationError

INSTALLER = "installer"
"""The list with pip's own wheel."""

_PIN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_]*)")


@dataclass(frozen=True)
class Pin:
    """A package and its version.

    Attributes:
        name: as PyPI compares it, such as "ai-edge-litert".
        version: such as "2.3.0".
    """

    name: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Reads NAME==VERSION.

        Raises:
            ConfigurationError: that is something else, such as a range of versions.
        """
        match = _PIN.fullmatch(text.strip())
        if not match:
            raise ConfigurationError(
                f"{text!r} is no package with its version; write it as NAME==VERSION."
            )
        return cls(normalised(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    def names(self, name: str, version: str) -> bool:
        """Whether that is meant; 1.0 is 1.0.0."""
        return self.name == normalised(name) and _shortened(self.version) == _shortened(version)


def normalised(name: str) -> str:
    """A package's name as PyPI compares it: `Foo.Bar_baz` is `foo-bar-baz` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name: str) -> tuple[Pin, ...]:
    """A list of `locks`: everything that a device needs, and nothing else.

    Args:
        name: package of the runtime, or `INSTALLER`.

    Raises:
        ConfigurationError: there is no such list.
    """
    file = resources.files("edgelstm_devices") / "locks" / f"{name}.txt"
    if not file.is_file():
        raise ConfigurationError(
            f"It is not known what belongs to the runtime {name!r}; tell edgelstm's authors."
        )
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(Pin.parse(line) for line in lines if line and not line.startswith("#"))


def with_others(pins: Iterable[Pin], others: Iterable[Pin]) -> tuple[Pin, ...]:
    """The pins and the others, which take the place of those of the same name."""
    return tuple(({pin.name: pin for pin in pins} | {pin.name: pin for pin in others}).values())


def _shortened(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version.lower().replace("_", "-"))
