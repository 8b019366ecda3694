"""A calibration of its own beside an artifact: `pump.calibration.json` beside `pump.tflite`.

`edgelstm calibrate` writes it for the sensor at hand, and whatever opens the artifact takes it. It
is of one model: the hash of that model's flatbuffer stands in it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError, ConfigurationError
from edgelstm.files import atomic_path, check_output
from edgelstm.loading import load
from edgelstm.manifest import Detection
from edgelstm.session import Session
from edgelstm.signing import TrustedKeys
from edgelstm.strict import build

VERSION = 1
SUFFIX = ".calibration.json"
_LARGEST_FILE = 10_000_000  # bytes; a calibration has some ten thousand


@dataclass(frozen=True)
class CalibrationFile:
    """What the file holds.

    Attributes:
        version: of this structure.
        sha256: of the flatbuffer of the model that it is for.
        model: the name of that model, for people.
        source: where the readings came from, for people.
        created: UTC time, ISO 8601.
        edgelstm: the version that made it.
        detection: takes the place of the artifact's own.
    """

    version: int
    sha256: str
    model: str
    source: str
    created: str
    edgelstm: str
    detection: Detection

    @classmethod
    def of(cls, artifact: Artifact, detection: Detection, source: str) -> CalibrationFile:
        """A calibration made now."""
        manifest = artifact.manifest
        now = datetime.now(UTC).isoformat(timespec="seconds")
        version = edgelstm.__version__
        return cls(VERSION, manifest.sha256, manifest.name, source, now, version, detection)

    def write(self, path: Path, *, force: bool = False) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OutputExistsError: it exists and `force` is false.
            ConfigurationError: it does not end in `.calibration.json`, or its folder does not
                exist or cannot be written.
            OSError: the disk fails or is full.
        """
        check_output(path, force=force, suffix=SUFFIX)
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> CalibrationFile:
        """Reads a file.

        Raises:
            ArtifactError: it cannot be read, is damaged, or is of a version that this edgelstm
                does not know.
        """
        try:
            with path.open("rb") as file:
                text = file.read(_LARGEST_FILE)
            data = json.loads(text)
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise _damaged(path, "it is not JSON") from error
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise ArtifactError(
                f"{path} is a calibration of version {version!r}, and this edgelstm knows version "
                f"{VERSION}: calibrate again, or move it away."
            )
        try:
            return build(cls, data, "calibration", ArtifactError)
        except (ArtifactError, ConfigurationError) as error:
            raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged ({reason.rstrip('.')}): calibrate again, or move it away."
    )


def calibration_path(artifact: str | Path) -> Path:
    """Where the calibration of an artifact file is looked for: beside it."""
    path = Path(artifact)
    return path.with_name(f"{path.stem}{SUFFIX}")


def with_calibration(artifact: Artifact, path: str | Path) -> Artifact:
    """The artifact with the calibration that lies beside its file.

    Args:
        artifact: what was read from the file.
        path: of the artifact's file, or of a calibration file itself, which then has to be there.

    Returns:
        The very same artifact where there is no calibration.

    Raises:
        ArtifactError: the calibration is another model's, is damaged, or is of a version that this
            edgelstm does not know.
    """
    named = str(path).endswith(SUFFIX)
    file = Path(path) if named else calibration_path(path)
    if not named and not file.exists():
        return artifact
    return apply(CalibrationFile.read(file), artifact, file)


def load_calibrated(
    path: Path,
    backend: str = "auto",
    delegate: str | None = None,
    *,
    calibration: bool = True,
    trusted: TrustedKeys | None = None,
) -> tuple[Session, Path | None]:
    """Loads an artifact with the calibration that lies beside it.

    It has to compute here what it computed when it was made.

    Args:
        path: of the artifact.
        backend: the TFLite runtime.
        delegate: what else is to compute, if anything.
        calibration: whether one that lies beside it is taken; nobody signs those.
        trusted: see `load`.

    Returns:
        The session, and the file of the calibration; None where none was taken.

    Raises:
        ArtifactError: it is no artifact, is damaged, or its golden vectors do not hold here; or
            the calibration beside it is damaged or another model's.
        SignatureError: nobody who is trusted signed it, or it was changed since.
        MissingDependencyError: no backend is installed, or nothing that checks a signature.
        BackendError: the backend cannot run the model.
        ConfigurationError: a setting makes no sense.
    """
    session = load(path, backend, delegate, verify=True, trusted=trusted)
    if not calibration:
        return session, None
    try:
        calibrated = with_calibration(session.artifact, path)
    except BaseException:
        session.close()
        raise
    if calibrated is session.artifact:
        return session, None
    session.artifact = calibrated
    return session, calibration_path(path)


def apply(calibration: CalibrationFile, artifact: Artifact, path: Path) -> Artifact:
    """The artifact with this calibration in place of its own; `path` is for the messages.

    Raises:
        ArtifactError: it is another model's.
    """
    if calibration.sha256 != artifact.manifest.sha256:
        raise ArtifactError(
            f"{path} is a calibration of another model ({calibration.model}, made "
            f"{calibration.created}): calibrate again, or move it away."
        )
    try:
        manifest = dataclasses.replace(artifact.manifest, detection=calibration.detection)
    except ArtifactError as error:
        raise _damaged(path, str(error)) from error
    return dataclasses.replace(artifact, manifest=manifest)
