"""Where files are: those that a configuration names, and those of a service that was not told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgelstm.errors import ConfigurationError


def default_state_directory(name: str, environ: Mapping[str, str]) -> Path:
    """The state directory of a service that was given none.

    Under systemd it is what `StateDirectory=` made (systemd.exec(5)); else a folder of that name
    in `state_home`.

    Args:
        name: of the computer, as the configuration has it.
        environ: the environment.
    """
    # Several directories are divided by colons.
    if given := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    return state_home(environ) / name


def state_home(environ: Mapping[str, str]) -> Path:
    """The folder in which the state directories of all names are, when systemd gives none.

    It follows the XDG Base Directory Specification: a relative path is left out of account.
    """
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        home = environ.get("HOME", "")
        base = (Path(home) if home else Path.home()) / ".local" / "state"
    return base / "edgelstm"


def resolve(text: str, folder: Path) -> Path:
    """A path as a configuration has it: `~` is the home directory.

    Args:
        text: the path.
        folder: that it is relative to.

    Raises:
        ConfigurationError: there can be no such path; the message is what is said of its key.
    """
    if not text:
        raise ConfigurationError("is empty")
    if "\0" in text:
        raise ConfigurationError("has a character that no path can have")
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigurationError("names a user that this computer does not have") from error
