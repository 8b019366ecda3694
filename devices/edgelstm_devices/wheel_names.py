"""What the name of a wheel says: what it is, and which Pythons and machines can install it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgelstm.errors import ConfigurationError, DeploymentError
from edgelstm_devices.pins import Pin, normalised

# From which version of glibc on there were such tags before PEP 600 gave them numbers.
_OLD_TAGS = {
    17: "manylinux2014",
    12: "manylinux2010",
    5: "manylinux1",
}
_OLDEST = {"x86_64": 5}  # Others begin with manylinux2014.


@dataclass(frozen=True)
class Target:
    """A Python on a device.

    Attributes:
        python: its version, such as "3.11".
        architecture: that it was built for: "aarch64", "armv7l" or "x86_64".
        glibc: version of the GNU C library there, such as "2.36".

    Raises:
        DeploymentError: there are no wheels for such a one.
    """

    python: str
    architecture: str
    glibc: str

    def __post_init__(self) -> None:
        python = re.match(r"3\.\d+", self.python)
        if not python:
            raise DeploymentError(
                f"The device has Python {self.python or 'in no version'}; install Python 3.11 or "
                "newer there."
            )
        object.__setattr__(self, "python", python[0])
        if not re.fullmatch(r"2\.\d+(\.\d+)?", self.glibc):
            raise DeploymentError(
                f"The device has the C library {self.glibc or 'of no known version'}, and the "
                "TFLite runtimes have wheels for glibc 2 only; use Raspberry Pi OS, Debian or "
                "Ubuntu."
            )

    def __str__(self) -> str:
        return f"{self.architecture} and Python {self.python}"

    @property
    def key(self) -> str:
        """A name for it, such as "cp311-aarch64-glibc2.36"."""
        return f"cp{self._digits}-{self.architecture}-glibc{self.glibc}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The tags of machines like it, the closest first (PEP 600).

        `linux_…` is among them: piwheels has no others.
        """
        return tuple(self._platforms())

    def _platforms(self) -> Iterator[str]:
        newest = int(self.glibc.split(".")[1])
        for minor in range(newest, _OLDEST.get(self.architecture, 17) - 1, -1):
            yield f"manylinux_2_{minor}_{self.architecture}"
            if minor in _OLD_TAGS:
                yield f"{_OLD_TAGS[minor]}_{self.architecture}"
        yield f"linux_{self.architecture}"

    @property
    def _digits(self) -> str:
        return self.python.replace(".", "")

    def takes(self, wheel: WheelName) -> bool:
        """Whether a wheel can be installed there, by its tags (PEP 425)."""
        if not {"any", *self.platforms} & set(wheel.platforms):
            return False
        mine = int(self._digits[1:])
        for python in wheel.pythons:
            match = re.fullmatch(r"(py|cp)3(\d*)", python)
            if not match:
                continue
            minor = int(match[2] or 0)
            for abi in wheel.abis:
                if abi == f"cp{self._digits}" and minor == mine:
                    return True
                if abi in ("none", "abi3") and minor <= mine:
                    # `cp39-none` is of Python 3.9 alone; `py39-none` and `cp39-abi3` are not.
                    if abi == "none" and match[1] == "cp" and minor != mine:
                        continue
                    return True
        return False


@dataclass(frozen=True)
class WheelName:
    """The name of a wheel's file, taken apart.

    Attributes:
        pin: the package and its version.
        pythons: tags such as "cp311" and "py3".
        abis: tags such as "cp311", "abi3" and "none".
        platforms: tags such as "manylinux_2_28_aarch64" and "any".
    """

    pin: Pin
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]

    @classmethod
    def parse(cls, name: str) -> WheelName:
        """Takes the name of a file apart.

        Raises:
            ConfigurationError: no wheel is called so.
        """
        parts = name.removesuffix(".whl").split("-")
        if not name.endswith(".whl") or len(parts) not in (5, 6) or not all(parts):
            raise ConfigurationError(
                f"{name} is not what a wheel is called, such as name-1.0-py3-none-any.whl; do not "
                "rename wheels."
            )
        pythons, abis, platforms = (tuple(tags.split(".")) for tags in parts[-3:])
        return cls(Pin(normalised(parts[0]), parts[1]), pythons, abis, platforms)
