"""Makes `keras_backends/*.keras`: models saved by Keras on backends other than TensorFlow.

Run it once under each backend, in an environment that has Keras 3, that backend and no more;
`keras_backends/expected.npz` then holds the input `x` and, under each backend's name, its outputs:

    KERAS_BACKEND=jax python tests/data/make_keras_backends.py
    KERAS_BACKEND=torch python tests/data/make_keras_backends.py
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

FOLDER = Path(__file__).parent / "keras_backends"
SEED = 20
CHANNELS = 3


def main() -> None:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        raise SystemExit("Set KERAS_BACKEND to jax or torch: these files stand for the others.")
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    mean, spread = [20.0, -5.0, 100.0], [3.0, 1.0, 10.0]
    noise = rng.normal(mean, spread, (16, 60, CHANNELS)).astype(np.float32)
    x = rng.normal(mean, spread, (1, 60, CHANNELS)).astype(np.float32)

    layers = keras.layers
    scale = layers.Normalization()
    scale.adapt(noise)
    model = keras.Sequential(
        [
            keras.Input((None, CHANNELS)),
            scale,
            layers.LSTM(8, return_sequences=True),
            layers.GRU(6, return_sequences=True),
            layers.Dense(2),
        ],
        name=f"from_{backend}",
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(noise, rng.normal(size=(16, 60, 2)), epochs=1, batch_size=8, verbose=0)

    FOLDER.mkdir(exist_ok=True)
    model.save(FOLDER / f"{backend}.keras")
    path = FOLDER / "expected.npz"
    kept = dict(np.load(path)) if path.exists() else {}
    if "x" in kept and not np.array_equal(kept["x"], x):
        kept = {}  # of an older version of this script
    outputs = keras.ops.convert_to_numpy(model(x, training=False))
    np.savez_compressed(path, **{**kept, "x": x, backend: outputs})


if __name__ == "__main__":
    main()
