from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.calibration_file import (
    SUFFIX,
    VERSION,
    CalibrationFile,
    calibration_path,
    with_calibration,
)
from edgelstm.errors import ArtifactError, ConfigurationError, OutputExistsError
from edgelstm.manifest import ChannelLimits, Detection


@pytest.fixture
def detection(tiny: Artifact) -> Detection:
    assert tiny.manifest.detection is not None
    return dataclasses.replace(
        tiny.manifest.detection,
        readings=7777,
        residual_scale=(0.1, 1 / 3),
        limits=(ChannelLimits(-1.5, None, 60), ChannelLimits(None, 9.0, None)),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of an artifact's file, which itself is not needed."""
    return tmp_path / "pump.tflite"


def write(tiny: Artifact, detection: Detection, path: Path) -> Path:
    file = calibration_path(path)
    CalibrationFile.of(tiny, detection, "pump.csv").write(file)
    return file


def damage(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_it_lies_beside_the_artifact(path: Path) -> None:
    assert calibration_path(path) == path.with_name("pump.calibration.json")
    assert calibration_path("pump.tflite") == Path("pump.calibration.json")
    assert SUFFIX == ".calibration.json"


def test_round_trip(tiny: Artifact, detection: Detection, path: Path) -> None:
    file = write(tiny, detection, path)
    read = CalibrationFile.read(file)
    assert read.detection == detection
    assert (read.version, read.sha256, read.model, read.source, read.edgelstm) == (
        VERSION,
        tiny.manifest.sha256,
        "tiny",
        "pump.csv",
        edgelstm.__version__,
    )
    assert read.created.endswith("+00:00")


def test_it_takes_the_place_of_the_artifacts_own(
    tiny: Artifact, detection: Detection, path: Path
) -> None:
    file = write(tiny, detection, path)
    for where in (path, str(path), file, str(file)):
        taken = with_calibration(tiny, where)
        assert taken.manifest.detection == detection
        assert taken.flatbuffer is tiny.flatbuffer
        assert dataclasses.replace(taken.manifest, detection=None) == dataclasses.replace(
            tiny.manifest, detection=None
        )


def test_without_one_the_artifact_is_what_it_was(tiny: Artifact, path: Path) -> None:
    assert with_calibration(tiny, path) is tiny


def test_one_that_is_named_has_to_be_there(tiny: Artifact, path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        with_calibration(tiny, calibration_path(path))


def test_that_of_another_model_is_refused(
    tiny: Artifact, tiny_float: Artifact, detection: Detection, path: Path
) -> None:
    write(tiny, detection, path)
    with pytest.raises(ArtifactError, match=r"pump.calibration.json is a calibration of another"):
        with_calibration(tiny_float, path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_version_is_refused(
    tiny: Artifact, detection: Detection, path: Path, version: object
) -> None:
    damage(write(tiny, detection, path), lambda d: d.update(version=version, new=1))
    with pytest.raises(ArtifactError, match=f"version {version!r}, .* knows version 1: calibrate"):
        with_calibration(tiny, path)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"calibration", b"[" * 100_000])
def test_what_is_not_json_is_refused(
    tiny: Artifact, detection: Detection, path: Path, text: bytes
) -> None:
    write(tiny, detection, path).write_bytes(text)
    with pytest.raises(ArtifactError, match=r"is damaged \(it is not JSON\): calibrate again"):
        with_calibration(tiny, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("sha256"), "misses the field 'sha256'"),
        (lambda d: d.update(colour=1), "unknown field 'colour'"),
        (lambda d: d["detection"].update(span="20"), "calibration.detection.span"),
        (lambda d: d["detection"]["tail"].update(start=0), "tail of the scores is not positive"),
        (lambda d: d["detection"].update(residual_scale=[1.0]), "does not fit"),
        (lambda d: d["detection"].update(limits=[]), "does not fit"),
        (lambda d: d["detection"].update(channel_mean=[]), "does not fit"),
    ],
)
def test_a_damaged_one_is_refused_in_a_sentence(
    tiny: Artifact,
    detection: Detection,
    path: Path,
    change: Callable[[dict[str, Any]], object],
    message: str,
) -> None:
    damage(write(tiny, detection, path), change)
    with pytest.raises(ArtifactError, match=message) as error:
        with_calibration(tiny, path)
    text = str(error.value)
    assert text.endswith("): calibrate again, or move it away.")
    assert "\n" not in text


@pytest.mark.parametrize("text", ["[]", "1", "null", "{}"])
def test_json_of_another_kind_is_refused(tiny: Artifact, path: Path, text: str) -> None:
    calibration_path(path).write_text(text)
    with pytest.raises(ArtifactError, match="of version None"):
        with_calibration(tiny, path)


def test_a_file_that_exists_is_not_replaced(
    tiny: Artifact, detection: Detection, path: Path
) -> None:
    file = write(tiny, detection, path)
    before = file.read_bytes()
    with pytest.raises(OutputExistsError):
        write(tiny, dataclasses.replace(detection, readings=1), path)
    assert file.read_bytes() == before
    CalibrationFile.of(tiny, dataclasses.replace(detection, readings=1), "x").write(
        file, force=True
    )
    assert CalibrationFile.read(file).detection.readings == 1
    assert [entry.name for entry in path.parent.iterdir()] == [file.name]


def test_another_name_is_refused(tiny: Artifact, detection: Detection, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"does not end in .calibration.json"):
        CalibrationFile.of(tiny, detection, "x").write(tmp_path / "pump.json")
