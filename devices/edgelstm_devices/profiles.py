"""Device profiles: TOML files beside this module, one per device."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from edgelstm.errors import ConfigurationError
from edgelstm.strict import build

# The converter has the same names, but neither package may import the other.
RECIPES = ("int8", "int8-float", "int8-weight", "int16x8", "float32")
ACCELERATORS = ("", "edgetpu")


@dataclass(frozen=True)
class Profile:
    """A description of a device.

    Attributes:
        name: as users type it, such as "pi4".
        title: as people call it.
        architecture: as `uname -m` prints it.
        runtime: the Python package of the TFLite runtime that has wheels for it.
        requirement: what pip installs there to have edgelstm with that runtime.
        python: the Python versions that work.
        recipe: how a model for it is quantised unless told otherwise, one of `RECIPES`.
        accelerator: what runs the model besides the CPU, one of `ACCELERATORS`; "" for nothing.
        source: where the figures are from.
    """

    name: str
    title: str
    architecture: str
    runtime: str
    requirement: str
    python: str
    recipe: str
    accelerator: str
    source: str

    def __post_init__(self) -> None:
        for field, value, known in (
            ("recipe", self.recipe, RECIPES),
            ("accelerator", self.accelerator, ACCELERATORS),
        ):
            if value not in known:
                raise ConfigurationError(
                    f"The profile {self.name} has the {field} {value!r}, which is none of "
                    f"{', '.join(map(repr, known))}."
                )


def load_profiles() -> dict[str, Profile]:
    """All profiles, by name.

    Raises:
        ConfigurationError: a profile has a missing, unknown or wrongly typed entry.
    """
    files = (resources.files("edgelstm_devices") / "data").iterdir()
    profiles = [
        _parse(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8"))
        for file in sorted(files, key=lambda f: f.name)
        if file.name.endswith(".toml")
    ]
    return {profile.name: profile for profile in profiles}


def find_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ConfigurationError: there is none, or a profile is broken.
    """
    profiles = load_profiles()
    if name not in profiles:
        raise ConfigurationError(
            f"No device is called {name!r}; the known ones are {', '.join(profiles)}."
        )
    return profiles[name]


def _parse(name: str, text: str) -> Profile:
    try:
        data = {"name": name, **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The profile {name} is not TOML: {error}.") from error
    return build(Profile, data, f"profile {name}", ConfigurationError)
