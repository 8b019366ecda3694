"""Device profiles: TOML files in `data`, one per device, and those that the user has."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from edgelstm.backends.delegates import parse_delegate
from edgelstm.configuration.problems import did_you_mean
from edgelstm.errors import ConfigurationError
from edgelstm_devices.profile_file import read_dataclass
from edgelstm_devices.runtimes import Architecture, Runtime, load_runtimes

__all__ = ["ACCELERATORS", "RECIPES", "Profile", "Runtime", "find_profile", "load_profiles"]

# The converter has the same names, but neither package may import the other.
RECIPES = ("int8", "int8-float", "int8-weight", "int16x8", "float32")
ACCELERATORS = ("", "edgetpu")

_SHIPPED: Traversable = resources.files("edgelstm_devices") / "data"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Profile:
    """A description of a device.

    Attributes:
        name: as users type it, such as "pi4"; that of its file.
        title: as people call it.
        architecture: of the Python there.
        packages: of the TFLite runtimes that have wheels for it, the best first.
        recipe: how a model for it is quantised unless told otherwise, one of `RECIPES`.
        accelerator: what runs the model besides the CPU, one of `ACCELERATORS`; "" for nothing.
        delegates: what `--delegate` may be there.
        memory_mb: MiB of memory that it is made with, smallest first; empty when unknown.
        cores: of the CPU; None when unknown.
        threads: that a runtime should use for one model.
        serial: names of serial ports there, shell patterns, the most usual first.
        models: what its /proc/device-tree/model begins with; none for what that does not tell.
        note: what else to know.
        sources: where each figure is from, by its name.
        path: the user's file that it is from; None when edgelstm brought it.
        runtimes: the `packages`, with what is known of them.
    """

    name: str
    title: str = field(metadata={"example": "Pump controller"})
    architecture: Architecture
    packages: tuple[str, ...] = field(metadata={"example": ["ai-edge-litert"]})
    recipe: str = field(metadata={"choices": RECIPES, "example": "int8-float"})
    accelerator: str = field(default="", metadata={"choices": ACCELERATORS})
    delegates: tuple[str, ...] = ()
    memory_mb: tuple[int, ...] = field(default=(), metadata={"least": 1})
    cores: int | None = field(default=None, metadata={"least": 1})
    threads: int = field(default=1, metadata={"least": 1})
    serial: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    note: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    runtimes: tuple[Runtime, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Finds the runtimes, and refuses what cannot be."""
        known = load_runtimes()
        there = [package for package, architecture in known if architecture == self.architecture]
        for package in self.packages:
            if package not in there:
                raise ConfigurationError(
                    f"'packages' has {package!r}, of which no wheels for {self.architecture} are "
                    f"known{did_you_mean(package, there, f'; there are of {_and(there)}')}"
                )
        if not self.packages:
            raise ConfigurationError(f"'packages' is empty; there are wheels of {_and(there)}.")
        for delegate in self.delegates:
            try:
                parse_delegate(delegate)
            except ConfigurationError as error:
                raise ConfigurationError(f"'delegates': {error}") from error
        for port in self.serial:
            if not port.startswith("/dev/"):
                raise ConfigurationError(
                    f"'serial' has {port!r}, which is no port; write it as /dev/ttyACM* is."
                )
        names = [each.name for each in fields(self)]
        for name in self.sources:
            if name not in names:
                raise ConfigurationError(
                    f"'sources' has {name!r}, which is no figure{did_you_mean(name, names)}"
                )
        object.__setattr__(
            self, "runtimes", tuple(known[p, self.architecture] for p in self.packages)
        )

    @property
    def bits(self) -> int:
        """Of the Python there, 32 or 64."""
        return 32 if self.architecture == "armv7l" else 64

    @property
    def runtime(self) -> str:
        """The package of the runtime that is taken where nothing is said."""
        return self.packages[0]

    @property
    def requirement(self) -> str:
        """What pip installs there to have edgelstm with that runtime."""
        return self.runtimes[0].requirement

    @property
    def python(self) -> str:
        """The versions of Python that work with that runtime."""
        return self.runtimes[0].python

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"bits": self.bits, "path": str(self.path) if self.path else None}

    def likeness(self, model: str, architecture: str) -> int:
        """How well it fits a device; the one with the highest number is to be taken.

        Args:
            model: content of /proc/device-tree/model there; "" when there is none.
            architecture: of the Python there.

        Returns:
            How many letters of the model are known to it; 0 when it is for any device of that
            architecture; -1 when it is for others, or cannot be told, such as an accelerator that
            may be plugged in anywhere, or a profile of the user's own without models.
        """
        if architecture != self.architecture:
            return -1
        if not self.models:
            return -1 if self.accelerator or self.path else 0
        return max((len(known) for known in self.models if model.startswith(known)), default=-1)


def user_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user's own profiles are: devices/*.toml in edgelstm's folder of settings.

    It follows the XDG Base Directory Specification: a relative path is left out of account.
    """
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        base = Path(environ.get("HOME") or Path.home()) / ".config"
    return base / "edgelstm" / "devices"


def check_name(name: str, what: str) -> None:
    """Refuses what no device can be called.

    Args:
        name: of a device.
        what: has that name, for the message.

    Raises:
        ConfigurationError: it is no name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what} cannot be that of a device: up to 64 letters, digits, '_', '.' and '-' may, "
            "and the first is a letter or a digit."
        )


def load_profiles(environ: Mapping[str, str] = os.environ) -> dict[str, Profile]:
    """All profiles by name: the user's own, then the others; his take the place of their likes.

    Args:
        environ: has HOME.

    Raises:
        ConfigurationError: a profile has a mistake.
    """
    profiles = [_read(name, file) for name, file in sorted(_files(environ).items())]
    own_first = sorted(profiles, key=lambda profile: profile.path is None)
    return {profile.name: profile for profile in own_first}


def find_profile(name: str, environ: Mapping[str, str] = os.environ) -> Profile:
    """The profile of that name, or of that file.

    Args:
        name: such as "pi4", or the path of a TOML file.
        environ: has HOME.

    Raises:
        ConfigurationError: there is none, or it has a mistake.
    """
    if name.endswith(".toml") or "/" in name:
        path = Path(name).expanduser()
        return _read(path.stem, path)
    files = _files(environ)
    if name not in files:
        known = f"; the known ones are {', '.join(sorted(files))}."
        raise ConfigurationError(f"No device is called {name!r}{known}")
    return _read(name, files[name])


def profile_text(name: str, environ: Mapping[str, str] = os.environ) -> str:
    """The TOML text of a profile.

    Args:
        name: as `find_profile` takes it.
        environ: has HOME.

    Raises:
        ConfigurationError: there is none, or it has a mistake.
    """
    profile = find_profile(name, environ)
    return (profile.path or _SHIPPED / f"{name}.toml").read_text(encoding="utf-8")


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)


def _files(environ: Mapping[str, str]) -> dict[str, Traversable]:
    """The files of the profiles by name."""
    files = (*_SHIPPED.iterdir(), *user_folder(environ).glob("[!.]*.toml"))
    return {file.name.removesuffix(".toml"): file for file in files}


def _read(name: str, file: Traversable) -> Profile:
    shipped = file == _SHIPPED / file.name
    shown = f"The profile {name}" if shipped else str(file)
    check_name(name, shown)
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {shown}; see: edgelstm devices.") from None
    except OSError as error:
        raise ConfigurationError(f"{shown} cannot be read: {error.strerror}.") from error
    path = None if shipped else Path(str(file))
    return read_dataclass(Profile, text, shown, name=name, path=path)
