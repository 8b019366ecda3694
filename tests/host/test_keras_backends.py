"""Models saved by Keras on JAX and on PyTorch: see `tests/data/make_keras_backends.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm_quantize import keras_files

FOLDER = Path(__file__).parent.parent / "data" / "keras_backends"
BACKENDS = ["jax", "torch"]


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(FOLDER / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_gives_what_it_gave_where_it_was_made(
    backend: str, expected: dict[str, Any]
) -> None:
    assert keras.backend.backend() == "tensorflow"
    model, record = keras_files.load(FOLDER / f"{backend}.keras")
    assert record is None
    assert model.name == f"from_{backend}"
    outputs = np.asarray(model(expected["x"], training=False))
    assert outputs.shape == (1, 60, 2)
    assert np.abs(outputs - expected[backend]).max() < 1e-5
    assert expected[backend].std() > 0.01  # so that the comparison says something


# From here on the converter is needed, too.


@pytest.mark.parametrize("backend", BACKENDS)
def test_float_steps_give_what_the_model_gave_where_it_was_made(
    backend: str, expected: dict[str, Any]
) -> None:
    from edgelstm_quantize import quantize

    rng = np.random.default_rng(1)
    noise = rng.normal([20.0, -5.0, 100.0], [3.0, 1.0, 10.0], (400, 3))
    artifact = quantize(
        FOLDER / f"{backend}.keras", Recording.from_array(noise), recipe="float32", horizon=0
    )
    with Session(artifact) as session:
        stepped = np.array([session.step(x) for x in expected["x"][0]])
    assert np.abs(stepped - expected[backend][0]).max() < 1e-4
