"""A release on the laptop: what it is, and where each of its files is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import edgelstm
from edgelstm.errors import DeploymentError
from edgelstm.files import atomic_path
from edgelstm.strict import build
from edgelstm_devices.release import SCHEMA, ReleaseSpec, StoredFile, digest_of
from edgelstm_devices.runtime_bundle import RuntimeBundle, kept
from edgelstm_devices.shipment import Shipment

RELEASE = "release.json"
FILES = "files"

_NOT_IN_DIGEST = ("id", "digest", "made", "by")


@dataclass(frozen=True)
class Bundle:
    """A release with its files.

    Attributes:
        spec: what it is.
        sources: where each file is here, by sha256.
    """

    spec: ReleaseSpec
    sources: Mapping[str, Path]

    def write(self, folder: Path) -> None:
        """Writes it into a folder: `release.json`, and the files by sha256 in `files`.

        What is there already is not written again; `release.json` comes last.

        Args:
            folder: that is made if need be, and has nothing else in it.

        Raises:
            DeploymentError: the folder has something else in it, or cannot be written.
        """
        files = folder / FILES
        try:
            strangers = {path.name for path in folder.iterdir()} if folder.exists() else set()
            if strangers - {RELEASE, FILES}:
                raise DeploymentError(
                    f"{folder} has other files in it, such as {min(strangers - {RELEASE, FILES})}; "
                    "name a new folder."
                )
            files.mkdir(parents=True, exist_ok=True)
            stored = self.spec.stored()
            for path in files.iterdir():
                if path.name not in stored:
                    path.unlink()
            for sha256, file in stored.items():
                place = files / sha256
                if not place.is_file() or StoredFile.of(place) != file:
                    with atomic_path(place) as temporary:
                        shutil.copyfile(self.sources[sha256], temporary)
            with atomic_path(folder / RELEASE) as temporary:
                text = json.dumps(self.spec.to_dict(), indent=2, sort_keys=True) + "\n"
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DeploymentError(
                f"The release cannot be written into {folder}: {error.strerror or error}."
            ) from error

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Reads what `write` wrote, and checks that it is whole.

        Raises:
            DeploymentError: there is none, it is damaged, or of a version that this edgelstm does
                not know.
        """
        try:
            data = json.loads((folder / RELEASE).read_bytes())
        except OSError as error:
            raise DeploymentError(
                f"There is no release in {folder}: {RELEASE} cannot be read: {error.strerror}."
            ) from error
        except ValueError as error:
            raise _damaged(folder, f"{RELEASE} is not JSON") from error
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:
            raise DeploymentError(
                f"The release in {folder} has the schema {schema!r}, and this edgelstm knows "
                f"{SCHEMA}; write it again with this version."
            )
        try:
            spec = build(ReleaseSpec, data, "release", DeploymentError)
        except DeploymentError as error:
            raise _damaged(folder, str(error).rstrip(".")) from error
        if content_digest(spec) != spec.digest:
            raise _damaged(folder, "its digest is not that of what is in it")
        sources = {}
        for sha256, file in spec.stored().items():
            path = folder / FILES / sha256
            if not path.is_file() or StoredFile.of(path) != file:
                raise _damaged(folder, f"the file {sha256[:12]} is missing or another")
            sources[sha256] = path
        return cls(spec, sources)


def assemble(
    shipment: Shipment,
    runtime: RuntimeBundle,
    *,
    service: str,
    unit: str,
    cache: Path,
    now: datetime,
    by: str,
    expect_readings: bool = True,
) -> Bundle:
    """Puts a release together of its halves.

    Args:
        shipment: the configuration and the artifacts.
        runtime: what runs them.
        service: the name for which the shipment was read.
        unit: text of the systemd unit, with `RELEASE_MARK` for the folder of the release.
        cache: keeps what is made here, see `wheelhouse.default_cache`.
        now: with a time zone.
        by: who makes it, such as "ann@laptop".
        expect_readings: whether it must receive readings to be proved.

    Raises:
        DeploymentError: the cache cannot be written.
    """
    text = kept(shipment.text.encode(), shipment.configuration, cache)
    paths = {shipment.configuration: text, **shipment.files}
    files = {name: StoredFile.of(path) for name, path in sorted(paths.items())}
    sources = {files[name].sha256: path for name, path in paths.items()}
    spec = ReleaseSpec(
        service=service,
        id="",
        digest="",
        made=now.astimezone(UTC).isoformat(timespec="seconds"),
        by=by,
        edgelstm=edgelstm.__version__,
        files=files,
        configuration=shipment.configuration,
        artifacts=tuple(sorted(shipment.models)),
        runtime=runtime.spec,
        unit=unit,
        expect_readings=expect_readings,
    )
    digest = content_digest(spec)
    identifier = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{digest[:8]}"
    whole = ReleaseSpec(**(vars(spec) | {"id": identifier, "digest": digest}))
    return Bundle(whole, sources | dict(runtime.sources))


def content_digest(spec: ReleaseSpec) -> str:
    """The digest of what a release is, whoever made it and when."""
    parts: dict[str, Any] = spec.to_dict()
    return digest_of(**{name: parts[name] for name in parts if name not in _NOT_IN_DIGEST})


def _damaged(folder: Path, reason: str) -> DeploymentError:
    return DeploymentError(f"The release in {folder} is damaged ({reason}); write it again.")
