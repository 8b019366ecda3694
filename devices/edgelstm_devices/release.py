"""A release as plain data: what the laptop decides, and the device keeps as `release.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

SCHEMA = 1
RELEASE_MARK = "@RELEASE@"
"""Stands in a unit for the folder of the release: `current`, or the one on trial."""

Mode = Literal["system", "user"]


@dataclass(frozen=True)
class StoredFile:
    """A file of a release or a wheel, known by its content.

    Attributes:
        sha256: of the content, 64 hexadecimal digits.
        size: in bytes.
    """

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> StoredFile:
        """Of a file that is there."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        return cls(digest.hexdigest(), path.stat().st_size)


@dataclass(frozen=True)
class RuntimeSpec:
    """A virtual environment of the device: which packages, for which Python.

    Attributes:
        id: a name made of what follows, so that equal ones are made once: see `runtime_id`.
        python: that it is for, such as "3.11".
        architecture: that it is for, of the Python there: "aarch64", "armv7l" or "x86_64".
        wheels: that are sent, by file name: edgelstm's own and pip's always, all others when
            `offline`.
        requirements: every package with its version, such as "numpy==2.4.6", but edgelstm itself;
            they are installed with --no-deps.
        installer: file name of the pip wheel in `wheels`, which need not be installed there.
        offline: whether nothing is fetched from the device's index.
    """

    id: str
    python: str
    architecture: str
    wheels: Mapping[str, StoredFile]
    requirements: tuple[str, ...]
    installer: str
    offline: bool


@dataclass(frozen=True)
class ReleaseSpec:
    """What is deployed.

    Attributes:
        service: name of the service, the NAME of the unit edgelstm@NAME.
        id: of the release, see `release_id`: time and digest of the content.
        digest: of the content: files, runtime and unit; equal ones need not be deployed again.
        made: ISO 8601 in UTC.
        by: who made it, such as "ann@laptop".
        edgelstm: its version.
        files: by name in the release's folder.
        configuration: name of the run configuration among them.
        artifacts: names of the artifacts among them.
        runtime: what it runs in.
        unit: text of the systemd unit, with `RELEASE_MARK` for the folder of the release.
        expect_readings: whether the service must receive readings to be proved.
        schema: of this, `SCHEMA`.
    """

    service: str
    id: str
    digest: str
    made: str
    by: str
    edgelstm: str
    files: Mapping[str, StoredFile]
    configuration: str
    artifacts: tuple[str, ...]
    runtime: RuntimeSpec
    unit: str
    expect_readings: bool = True
    schema: int = field(default=SCHEMA)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def stored(self) -> dict[str, StoredFile]:
        """Everything that the device's store must have, by sha256."""
        every = [*self.files.values(), *self.runtime.wheels.values()]
        return {file.sha256: file for file in every}


def digest_of(**parts: Any) -> str:
    """The sha256 of plain data, 64 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()
