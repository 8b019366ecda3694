"""What systemd hands to a service besides its files: variables and credentials.

A configuration takes its secrets from there, so whoever tries it needs them, too. Read are the
service's unit and the drop-ins that people wrote for it (systemd.exec(5), systemd.syntax(7)); what
decides in the end is the trial, which systemd itself starts.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .layout import Service

_COMMENTS = ("#", ";")
_SECTION = re.compile(r"\[(.+)\]\Z")
# As systemd's shell_maybe_quote writes them.
_ESCAPE = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass
class UnitEnvironment:
    """What a unit hands to its service.

    Attributes:
        variables: of the environment.
        credentials: the file that each comes from, by name.
        unknown: keys that say more, which only systemd can read, such as of encrypted credentials.
    """

    variables: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, Path] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def unit_environment(service: Service, unit: str) -> UnitEnvironment:
    """What a unit and its drop-ins say.

    Args:
        service: which.
        unit: its text; that of a release, which need not be installed.

    Raises:
        OSError: a file that is there cannot be read.
    """
    found = UnitEnvironment()
    files: list[str] = []
    for text in (unit, *(path.read_text(errors="replace") for path in _drop_ins(service))):
        for key, value in _settings(text):
            shown = value.replace("%i", service.name).replace("%%", "%")
            if key == "Environment":
                _take_variables(found.variables, _words(shown))
            elif key == "EnvironmentFile":
                files = [*files, shown] if shown else []
            elif key == "LoadCredential":
                name, _, path = shown.partition(":")
                if not shown:
                    found.credentials.clear()
                elif path.startswith("/"):
                    found.credentials[name] = Path(path)
                else:
                    found.unknown.append(key)
            elif key in ("LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted",
                         "ImportCredential", "PassEnvironment"):  # fmt: skip
                found.unknown.append(key)
    for file in files:
        _take_file(found.variables, file)
    return found


def manager_environment(printed: str) -> dict[str, str]:
    """The variables that systemd hands to every service.

    Args:
        printed: by `systemctl show-environment`, which quotes as a shell does: $'...'.
    """
    found = {}
    for line in printed.splitlines():
        name, given, value = line.partition("=")
        if not given or not _VARIABLE.match(name):
            continue
        if value.startswith("$'") and value.endswith("'"):
            value = _ESCAPE.sub(_unescaped, value[2:-1])
        found[name] = value
    return found


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code, 8)) if code.isdigit() else _ESCAPED.get(code, code)


def _drop_ins(service: Service) -> list[Path]:
    """The drop-ins of a service, in the order in which they count."""
    template = service.unit.partition("@")[0]
    folders = [f"{template}@.service.d", f"{service.unit}.d"]
    places = [service.layout.units]
    if service.layout.mode == "system":
        places = [Path("/usr/lib/systemd/system"), Path("/run/systemd/system"), *places]
    by_name = {
        path.name: path
        for folder in folders
        for place in places
        for path in sorted((place / folder).glob("*.conf"))
    }
    return [by_name[name] for name in sorted(by_name)]


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """The settings of the section [Service]."""
    section, joined = "", ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(_COMMENTS) or not (stripped or joined):
            continue
        if stripped.endswith("\\"):
            joined += stripped[:-1] + " "
            continue
        whole, joined = joined + stripped, ""
        if header := _SECTION.match(whole):
            section = header[1]
        elif section == "Service":
            key, _, value = whole.partition("=")
            yield key.strip(), value.strip()


def _words(text: str) -> Sequence[str]:
    with suppress(ValueError):  # systemd ignores a line that it cannot read
        return shlex.split(text)
    return []


def _take_variables(variables: dict[str, str], words: Sequence[str]) -> None:
    if not words:  # as in systemd, nothing forgets everything
        variables.clear()
    for word in words:
        name, given, value = word.partition("=")
        if given and _VARIABLE.match(name):
            variables[name] = value


def _take_file(variables: dict[str, str], name: str) -> None:
    """Takes the variables of a file; a name that begins with "-" need not be there."""
    path = Path(name.lstrip("-"))
    if name.startswith("-") and not os.path.exists(path):  # noqa: PTH110  # also of a folder that is not to be looked into
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith(_COMMENTS):
            continue
        key, given, value = stripped.partition("=")
        if given and _VARIABLE.match(key.strip()):
            words = _words(value)
            variables[key.strip()] = " ".join(words)
