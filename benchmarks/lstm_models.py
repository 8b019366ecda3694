"""The artifacts whose speed is measured: `python benchmarks/lstm_models.py UNITS FILE` makes one.

LSTM(UNITS) x 2 + Dense(3) on 3 channels, scaled to physical units within, in int8-float. Untrained:
training changes no speed. Made by a process of its own, so that TensorFlow is never in the one that
measures, and kept, so that a second run is quick.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError
from edgelstm.manifest import SCHEMA_VERSION
from edgelstm.recording import Recording

CHANNELS = TARGETS = 3
LAYERS = 2
RECIPE = "int8-float"
_MEAN, _STD = [20.0, -5.0, 0.0], [3.0, 1.0, 2.0]


def default_cache() -> Path:
    """Where artifacts are kept unless told otherwise."""
    return Path(tempfile.gettempdir()) / "edgelstm-benchmark-models"


def lstm_artifact(units: int, cache: Path) -> Path:
    """The artifact with layers of so many units, made if the cache does not have it."""
    path = cache / f"lstm-{LAYERS}x{units}-schema{SCHEMA_VERSION}.tflite"
    return made_once(path, [sys.executable, __file__, str(units), str(path)])


def made_once(path: Path, command: list[str]) -> Path:
    """An artifact, made by a command if it is not there, or is of another schema."""
    try:
        Artifact.read(path)
    except ArtifactError:
        print(f"making {path} ...", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(command, capture_output=True, text=True)  # TensorFlow talks a lot
        if made.returncode:
            sys.exit(f"{path} cannot be made:\n{made.stderr}")
    return path


def recording() -> Recording:
    """1,200 readings of three sines in physical units."""
    t = np.arange(1200.0)
    waves = np.stack([np.sin(t / 8), np.cos(t / 5), np.sin(t / 13)], axis=1)
    return Recording("sines", ("a", "b", "c"), t, waves * _STD + _MEAN, 1.0)


def _make(units: int, path: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from edgelstm_quantize import quantize

    keras.utils.set_random_seed(0)
    layers = keras.layers
    scaling = {"axis": -1, "mean": _MEAN, "variance": [s**2 for s in _STD]}
    x = keras.Input((None, CHANNELS))
    z = layers.Normalization(**scaling)(x)
    for _ in range(LAYERS):
        z = layers.LSTM(units, return_sequences=True)(z)
    y = layers.Normalization(**scaling, invert=True)(layers.Dense(TARGETS)(z))
    model = keras.Model(x, y, name=f"lstm{units}")
    quantize(model, recording(), recipe=RECIPE).write(path, force=True)


if __name__ == "__main__":
    _make(int(sys.argv[1]), Path(sys.argv[2]))
