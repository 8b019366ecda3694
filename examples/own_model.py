"""A Keras model of one's own, from the laptop to a stateful int8 session.

Needs the extra `quantize`. Run: python examples/own_model.py
"""

import keras
import numpy as np

import edgelstm
from edgelstm.recording import Recording
from edgelstm_quantize import quantize


def main() -> None:
    """Builds, converts, saves, loads and steps a GRU."""
    keras.utils.set_random_seed(0)
    t = np.arange(1500, dtype=np.float64)
    values = np.stack([np.sin(t / 9), np.cos(t / 7)], axis=1)
    values += np.random.default_rng(0).normal(0, 0.1, values.shape)

    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.GRU(16, return_sequences=True),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    windows = np.stack([values[i : i + 101] for i in range(0, 1000, 25)])
    model.fit(windows[:, :-1], windows[:, 1:], epochs=30, verbose=0)

    # The readings in the order in which they were taken: ranges are recorded statefully.
    recording = Recording("waves", ("x", "y"), t, values, sample_period=1.0)
    artifact = quantize(model, recording, recipe="int8", name="waves")
    artifact.write("waves.tflite", force=True)
    fidelity = artifact.manifest.fidelity
    print(f"int8 differs from Keras by {fidelity.relative_error:.1%} of the output")

    with edgelstm.load("waves.tflite") as session:
        for reading in values[:100]:
            forecast = session.step(reading)  # None only while a window is not due
    print(f"after 100 readings it forecasts {forecast.round(2)}, and {values[100].round(2)} came")


if __name__ == "__main__":
    main()
