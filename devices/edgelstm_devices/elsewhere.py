"""What in a run configuration means another thing on a device: paths, and files that hold secrets.

A release is a folder that only root may write, and the next one takes its place. So what a path
beside the configuration means depends on what it is for: it is sent along, it has to be elsewhere,
or it was put on the device by hand and never leaves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_origin

from edgelstm.configuration import (
    DashboardSettings,
    MetricsSettings,
    SensorSettings,
    SourceSettings,
)
from edgelstm.configuration.fields import Field, fields_of, is_mapping, item_kinds
from edgelstm.configuration.problems import Problems
from edgelstm.configuration.reading import sink_fields, top_fields
from edgelstm.secret import Secret
from edgelstm_devices.release import Mode
from edgelstm_devices.toml_edit import Place

Key = tuple[str, ...]

_SENT = ("ca_file", "certificate", "public_keys")
_BY_ITSELF = ("artifact",)  # see `shipment`


@dataclass(frozen=True)
class FilePlace:
    """A file beside the configuration that is to be sent along.

    Attributes:
        place: where the configuration names it.
        path: as it stands there.
    """

    place: Place
    path: str


def look_through(
    data: Mapping[str, Any], service: str, mode: Mode, problems: Problems
) -> tuple[FilePlace, ...]:
    """Looks for what cannot be on a device as it stands.

    Args:
        data: of a configuration in which `read_settings` found no mistake.
        service: its name, for hints.
        mode: of the installation, for hints.
        problems: takes what has to be changed.

    Returns:
        The files to be sent along, but artifacts.
    """
    looking = _Looking(service, mode, problems)
    looking.table(top_fields(), data, ())
    for name, table in data.get("sources", {}).items():
        looking.table(fields_of(SourceSettings), table, ("sources", name))
        looking.port(table["port"], ("sources", name, "port"))
    for name, table in data.get("sensors", {}).items():
        looking.table(fields_of(SensorSettings), table, ("sensors", name))
        looking.program(table.get("delegate", ""), ("sensors", name, "delegate"))
    for name, table in data.get("sinks", {}).items():
        common, own, _ = sink_fields(table["type"])
        looking.table((*common, *own), table, ("sinks", name))
        if table["type"] == "command":
            looking.program(table["argv"][0], ("sinks", name, "argv"))
    for name, kind in (("dashboard", DashboardSettings), ("metrics", MetricsSettings)):
        looking.table(fields_of(kind), data.get(name, {}), (name,))
    return tuple(looking.found)


class _Looking:
    def __init__(self, service: str, mode: Mode, problems: Problems) -> None:
        self._problems = problems
        self.found: list[FilePlace] = []
        if mode == "system":
            self._settings, self._logs = "/etc/edgelstm", f"/var/log/edgelstm/{service}"
        else:
            self._settings, self._logs = "~/.config/edgelstm", "~"

    def table(self, fields: Iterable[Field], table: Mapping[str, Any], key: Key) -> None:
        """Looks at the paths and the secrets of a table."""
        for field in fields:
            if field.name not in table or field.name in _BY_ITSELF:
                continue
            value, where = table[field.name], (*key, field.name)
            for text in _secret_files(field, value):
                self._problems.about(
                    where,
                    "is in a file beside this one, and secrets are not sent; put it on the device "
                    f'and write {{ file = "{self._settings}/{PurePosixPath(text).name}" }}',
                )
            for place, text in _paths(field, value):
                if _beside(text):
                    self._path(field.name, (*where, *place), text)

    def port(self, port: str, key: Key) -> None:
        """Looks at where readings come from."""
        scheme, _, rest = port.partition(":")
        if scheme.lower() == "stdin":
            self._problems.about(key, "is stdin:, which a service does not have")
        elif scheme.lower() == "replay" and _beside(rest.partition("?")[0]):
            self._problems.about(
                key,
                "names a file, which is not sent; put it on the device and write its full path "
                "there",
            )

    def program(self, text: str, key: Key) -> None:
        """Looks at a program or a library."""
        name = text.partition("?")[0]
        if "/" in name and _beside(name):
            self._problems.about(
                key,
                "names a file beside this one, which is not sent; put it on the device and write "
                "its full path there",
            )

    def _path(self, name: str, place: Place, text: str) -> None:
        if name in _SENT:
            self.found.append(FilePlace(place, text))
            return
        key = tuple(part for part in place if isinstance(part, str))
        if name == "state_directory":
            told = "is a folder beside this file, which the next release replaces; leave it out, "
            told += "and systemd gives the service one"
        elif key[0] == "sinks" and name == "key":
            told = "is a file beside this one, and private keys are not sent; put it on the device "
            told += f'and write "{self._settings}/{PurePosixPath(text).name}"'
        else:
            told = "is a file beside this one, where a service may not write; write a full path, "
            told += f'such as "{self._logs}/{PurePosixPath(text).name}"'
        self._problems.about(key, told)


def _beside(text: str) -> bool:
    """Whether a path is meant as relative to the configuration."""
    return not text.startswith(("/", "~"))


def _paths(field: Field, value: Any) -> Iterator[tuple[Place, str]]:
    if Path in field.kinds and isinstance(value, str):
        yield (), value
    for kind in field.kinds:
        if get_origin(kind) is tuple and Path in item_kinds(kind) and isinstance(value, list):
            yield from (((i,), each) for i, each in enumerate(value) if isinstance(each, str))


def _secret_files(field: Field, value: Any) -> Iterator[str]:
    """Files beside the configuration in which a secret is."""
    if not isinstance(value, dict):
        return
    if Secret in field.kinds:
        text = value.get("file", "/")
        if isinstance(text, str) and _beside(text):
            yield text
        return
    for kind in field.kinds:
        if is_mapping(kind) and Secret in item_kinds(kind):
            for each in value.values():
                text = each.get("file", "/") if isinstance(each, dict) else "/"
                if isinstance(text, str) and _beside(text):
                    yield text
