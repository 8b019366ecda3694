from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    return DATA / "tiny.tflite"


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Artifact:
    """The int8 artifact of `tests/data/make_tiny.py`."""
    return Artifact.read(tiny_path)


@pytest.fixture(scope="session")
def tiny_float32() -> Artifact:
    """The same model as `tiny`, not quantised."""
    return Artifact.read(DATA / "tiny_float32.tflite")


@pytest.fixture(scope="session")
def sines() -> NDArray[np.float64]:
    """Readings like those that `tiny` was trained on, (500, 2), but other noise."""
    t = np.arange(500)
    noise = np.random.default_rng(7).normal(0, 0.1, (500, 2))
    waves = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + noise
    return np.asarray(waves * [3, 1] + [20, -5], np.float64)
