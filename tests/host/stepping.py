"""What the converter's tests share: small models with weights of every kind, and their runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.calibration_data import as_recordings
from edgelstm_quantize.candidates import Candidate, Candidates, Target
from edgelstm_quantize.description import Purpose
from edgelstm_quantize.progress import silent
from edgelstm_quantize.recipes import RECIPES
from edgelstm_quantize.rim import channels_of
from edgelstm_quantize.streaming import as_stream
from edgelstm_quantize.window_graph import as_window

STEPS = 1300
CHANNELS = 3


def signals(steps: int = STEPS, channels: int = CHANNELS, seed: int = 0) -> NDArray[np.float32]:
    """Noisy sines of unit size, (steps, channels)."""
    t = np.arange(steps)[:, None]
    periods = np.array([57.0, 31.0, 88.0, 23.0])[:channels]
    noise = np.random.default_rng(seed).normal(0, 0.1, (steps, channels))
    values: NDArray[np.float64] = np.sin(2 * np.pi * t / periods + np.arange(channels)) + noise
    return values.astype(np.float32)


def roughen(model: Any, seed: int = 1) -> Any:
    """Moves every weight, so that none is left at a start (0 or 1) at which it does nothing."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            roughen(layer, seed)
        elif not isinstance(layer, keras.layers.Normalization):
            moved = [w + rng.normal(0, 0.15, w.shape) for w in layer.get_weights()]
            if isinstance(layer, keras.layers.BatchNormalization):
                moved[-1] = np.abs(moved[-1])  # the moving variance
            layer.set_weights(moved)
    return model


def sequences(body: Callable[[Any], Any], channels: int = CHANNELS, name: str = "m") -> Any:
    """A functional model over sequences of any length, its weights moved."""
    keras.utils.set_random_seed(3)
    x = keras.Input((None, channels))
    return roughen(keras.Model(x, body(x), name=name))


def run_keras(model: Any, values: NDArray[Any]) -> NDArray[np.float32]:
    """What the Keras model itself gives for one sequence of one input, (steps, targets)."""
    return keras_runner(model, values)(values)


def keras_runner(model: Any, like: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """A model of one input and one output as a function of a sequence, (steps, ...), any length."""
    spec = tf.TensorSpec((1, None, *like.shape[1:]), like.dtype)
    traced = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    return lambda values: np.asarray(traced(values[None]))[0]


def candidates_of(
    model: Any, data: Any, *, window: int | None = None, hop: int = 1, windows: bool = False
) -> Candidates:
    """A model on its way to every recipe, as `convert` makes it: what recipes share is made once.

    Args:
        model: a Keras model.
        data: calibration data.
        window: readings in a window; with `windows`, None takes the model's.
        hop: readings from one run of a window to the next.
        windows: whether it is to run over windows.
    """
    graph, length = as_window(model, window) if windows or window else (as_stream(model), None)
    recordings = as_recordings(data, inputs={end.name: channels_of(end) for end in graph.inputs})
    names = recordings[0].channels
    purpose = Purpose(model.name, names, (None,) * len(names), 1.0, "none", 0, (), length, hop)
    return Candidates(graph, recordings, purpose, Target("ai-edge-litert", False), silent)


def make(candidates: Candidates, recipe: str) -> tuple[Candidate, NDArray[np.float64]]:
    """A recipe applied, and what its model gave over the first recording, step after step."""
    made = candidates.make(RECIPES[recipe])
    return made, made.outputs[0]


def relative_error(y: NDArray[Any], reference: NDArray[Any]) -> float:
    """Mean |y - reference| / rms(reference)."""
    return float(np.abs(y - reference).mean() / np.sqrt((reference.astype(np.float64) ** 2).mean()))
