"""Device profiles: TOML files beside this module, one per device."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from edgelstm.errors import ConfigurationError
from edgelstm.strict import build


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
        source: where the figures are from.
    """

    name: str
    title: str
    architecture: str
    runtime: str
    requirement: str
    python: str
    source: str


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


def _parse(name: str, text: str) -> Profile:
    try:
        data = {"name": name, **tomllib.loads(text)}
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The profile {name} is not TOML: {error}.") from error
    return build(Profile, data, f"profile {name}", ConfigurationError)
