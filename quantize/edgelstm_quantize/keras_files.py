"""Keras model files, and what `edgelstm train` adds to one.

A `.keras` file is a ZIP archive, and Keras reads only the members it knows. So a trained model
carries its training record as further members, in the way an artifact carries its manifest:

- `edgelstm/training.json`: see `TrainingRecord`,
- `edgelstm/residuals.npy`: the out-of-fold residuals; those of windows, which are many, in float32.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ModelError
from edgelstm.files import atomic_path, check_output

_RECORD = "edgelstm/training.json"
_RESIDUALS = "edgelstm/residuals.npy"


@dataclass(frozen=True)
class TrainingRecord:
    """What a model was trained on.

    Attributes:
        channels: names of the channels that the model takes, in order.
        horizon: steps ahead of its forecast; 0 where it reconstructs windows.
        data_sha256: of the readings it was trained on, see `fingerprint`.
        residuals: physical units, (readings, targets): each from a model that had not seen the
            reading; NaN for the first readings of a stretch, which have no past, and where the
            value was missing. Row t is the reading at t less its forecast, made at t - horizon. Of
            a model that reconstructs, (readings, window x channels): row t is of the window that
            ends at t.
        targets: names of the channels that it forecasts, some or all of them, in order.
        categories: of each channel its texts, where it is categorical and held text: code k stands
            for text k; else None.
        task: "forecast" or "reconstruction".
        sample_period: seconds between the readings; None in a file of an earlier version.
        categorical: the channels that hold categories, of text or of whole numbers.
        resampled: whether the readings were put onto an even grid.
        excerpts: of the readings, see `excerpts`; none in a file of an earlier version.
    """

    channels: tuple[str, ...]
    horizon: int
    data_sha256: str
    residuals: NDArray[np.float64]
    targets: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    task: str
    sample_period: float | None
    categorical: tuple[str, ...] = ()
    resampled: bool = False
    excerpts: tuple[str, ...] = ()


def fingerprint(values: NDArray[np.float64]) -> str:
    """SHA-256 of readings, (readings, channels): tells whether two recordings are the same."""
    return hashlib.sha256(np.ascontiguousarray(values, np.float64).tobytes()).hexdigest()


def save(model: Any, record: TrainingRecord, path: Path, *, force: bool = False) -> None:
    """Writes a model with its training record, whole or not at all.

    Raises:
        OutputExistsError: the file exists and `force` is false.
        ConfigurationError: the name does not end in `.keras`, or its folder does not exist or
            cannot be written.
        OSError: the disk fails or is full.
    """
    check_output(path, force=force, suffix=".keras")
    text = json.dumps(
        {
            "channels": record.channels,
            "targets": record.targets,
            "categories": record.categories,
            "task": record.task,
            "horizon": record.horizon,
            "sample_period": record.sample_period,
            "categorical": record.categorical,
            "resampled": record.resampled,
            "excerpts": record.excerpts,
            "data_sha256": record.data_sha256,
        }
    )
    buffer = io.BytesIO()
    many = record.task == "reconstruction"
    np.save(buffer, record.residuals.astype(np.float32) if many else record.residuals)
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_RECORD, text)
            archive.writestr(_RESIDUALS, buffer.getvalue())


def check(path: Path) -> bool:
    """Looks at the first bytes of a file that should be a Keras model, without loading Keras.

    Returns:
        Whether it is of the `.keras` format; else it is HDF5.

    Raises:
        ModelError: it cannot be read, is neither, or has the name of the other.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    archive = head[:2] == b"PK"
    if not archive and head != b"\x89HDF\r\n\x1a\n":
        raise ModelError(
            f"{path} is not a Keras model: it is neither a .keras archive nor an HDF5 file."
        )
    if archive and path.suffix != ".keras":
        raise ModelError(f"{path} looks like a .keras file; give it a name that ends in .keras.")
    if not archive and path.suffix not in (".h5", ".hdf5"):
        raise ModelError(f"{path} looks like an HDF5 file; give it a name that ends in .h5.")
    return archive


def load(
    path: Path, custom_objects: Mapping[str, Any] | None = None
) -> tuple[Any, TrainingRecord | None]:
    """Reads a Keras model (`.keras`, `.h5`) and its training record, where it has one.

    Args:
        path: the file; the Keras backend that it was saved from does not matter.
        custom_objects: classes and functions of the user's own that the model has, by name.
            `edgelstm_quantize.cells` is known.

    Raises:
        ModelError: the file cannot be read or is no Keras model.
    """
    archive = check(path)
    import keras

    importlib.import_module("edgelstm_quantize.cells")  # registers them
    try:
        model = keras.saving.load_model(
            path, custom_objects=dict(custom_objects or {}), compile=False
        )
    except Exception as error:  # Keras raises whatever its parts raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = ""
        if "custom_objects" in str(error) or "registered" in str(error):
            hint = " Name the module or file with its classes with --custom-objects."
        raise ModelError(f"Keras cannot load {path}: {reason}{hint}") from error
    return model, _read_record(path) if archive else None


def read_record(path: Path) -> TrainingRecord | None:
    """The training record of a Keras model file, without loading Keras; None where it has none.

    Raises:
        ModelError: the file cannot be read or is no Keras model, or its record is damaged.
    """
    return _read_record(path) if check(path) else None


def _read_record(path: Path) -> TrainingRecord | None:
    with zipfile.ZipFile(path) as archive:
        if _RECORD not in archive.namelist():
            return None
        try:
            data = json.loads(archive.read(_RECORD))
            residuals = np.load(io.BytesIO(archive.read(_RESIDUALS)), allow_pickle=False)
            channels = tuple(data["channels"])
            # An earlier version knew neither targets nor categories, and only forecasts.
            texts = data.get("categories", [None] * len(channels))
            held = [name for name, known in zip(channels, texts, strict=True) if known]
            return TrainingRecord(
                channels=channels,
                horizon=data["horizon"],
                data_sha256=data["data_sha256"],
                residuals=residuals.astype(np.float64),
                targets=tuple(data.get("targets", channels)),
                categories=tuple(None if t is None else tuple(t) for t in texts),
                task=data.get("task", "forecast"),
                sample_period=data.get("sample_period"),
                categorical=tuple(data.get("categorical", held)),
                resampled=bool(data.get("resampled", False)),
                excerpts=tuple(data.get("excerpts", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The training record in {path} is damaged ({error}).") from error
