"""Trains the default forecaster: ridge autoregression plus an LSTM, as one Keras model.

The forecast of the next reading is

    CausalConv1D(channels, taps)(z) + Dense(channels)(LSTM(units)(z)),

with `z` the normalised readings, clipped at 8 standard deviations. The convolution is solved by
ridge regression and frozen. The dense layer starts near zero, so training starts at the ridge
solution, and early stopping never leaves it for something worse: on short recordings a linear
model is hard to beat, on longer ones the LSTM adds what is not linear.

Each reading of the recording is also predicted by a model that has not seen it (three contiguous
folds). These out-of-fold residuals are what a threshold can be set on; the residuals of the final
model on its own training data are too small.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm.recording import Recording
from edgelstm_quantize.forward import forward, open_signature
from edgelstm_quantize.keras_files import TrainingRecord, fingerprint
from edgelstm_quantize.limits import MIN_TRAINING_READINGS
from edgelstm_quantize.progress import Progress, silent

CLIP = 8.0
TAPS = 5
_FOLDS = 3
_CROP = 64  # steps of a training sequence
_SETTLING = 8  # its first steps, left out of the loss
_BATCH = 8
_ITERATIONS = 300
_EVERY = 10  # iterations between two looks at the held-out block
_NOISE = 0.3  # on the input, as a share of what the linear part cannot forecast


@dataclass(frozen=True)
class Trained:
    """A trained forecaster.

    Attributes:
        model: takes and gives physical units, (batch, time, channels).
        record: what `quantize` needs to know about the training.
        ridge_error: out-of-fold rms error of the linear part alone, normalised.
        error: the same of the whole model.
        iterations: of the final fit; few mean that the LSTM found little to add.
    """

    model: keras.Model
    record: TrainingRecord
    ridge_error: float
    error: float
    iterations: int


def train(
    recording: Recording,
    *,
    units: int = 32,
    seed: int = 0,
    on_progress: Progress = silent,
) -> Trained:
    """Trains a forecaster of the next reading on a recording of normal operation.

    Args:
        recording: at least 300 readings, evenly sampled.
        units: of the LSTM.
        seed: the same seed gives the same model on the same machine.
        on_progress: told what is going on.

    Raises:
        RecordingError: the recording is too short.
    """
    recording.need(MIN_TRAINING_READINGS, "training")
    mean = recording.values.mean(axis=0)
    std = recording.values.std(axis=0)
    std[std <= 1e-9 * np.maximum(1, np.abs(mean))] = 1.0  # a constant channel
    z = (recording.values - mean) / std
    n, channels = z.shape
    keras.utils.set_random_seed(seed)
    core = _build(channels, units)
    start = core.get_weights()
    surprise = _apply_ridge(z, _ridge(z, np.ones(n, bool)))[TAPS:] - z[TAPS:]
    noise = _NOISE * np.sqrt(np.mean(surprise**2, axis=0))
    trainer = _Trainer(core, np.clip(z, -CLIP, CLIP), z, noise)

    def fit(
        name: str, seen: NDArray[np.bool_], iterations: int, held_out: slice | None
    ) -> tuple[int, NDArray[np.float64]]:
        core.set_weights(start)
        core.get_layer("linear").set_weights([_ridge(z, seen)])
        rng = np.random.default_rng(seed)
        return trainer.fit(
            rng, seen, iterations, held_out, lambda i: on_progress(name, i, iterations)
        )

    forecast = np.full_like(z, np.nan)
    linear = np.full_like(z, np.nan)
    best = []
    edges = np.linspace(0, n, _FOLDS + 1).astype(int)
    for k, (a, b) in enumerate(itertools.pairwise(edges)):
        seen = np.ones(n, bool)
        seen[a:b] = False
        linear[a:b] = _apply_ridge(z, _ridge(z, seen))[a:b]
        iterations, predicted = fit(f"fold {k + 1} of {_FOLDS}", seen, _ITERATIONS, slice(a, b))
        forecast[a:b] = predicted[a:b]
        best.append(iterations)
    iterations = round(float(np.mean(best)))
    fit("final model", np.ones(n, bool), iterations, None)

    model = _build(channels, units, mean, std)
    model.set_weights(core.get_weights())
    forecast[:_SETTLING] = np.nan
    residuals = (z - forecast) * std
    record = TrainingRecord(recording.channels, 1, fingerprint(recording.values), residuals)
    return Trained(
        model,
        record,
        ridge_error=_rms((z - linear)[_SETTLING:]),
        error=_rms((z - forecast)[_SETTLING:]),
        iterations=iterations,
    )


def _build(
    channels: int,
    units: int,
    mean: NDArray[np.float64] | None = None,
    std: NDArray[np.float64] | None = None,
) -> keras.Model:
    """The forecaster, on normalised readings or (given mean and std) on physical ones."""
    x = keras.Input((None, channels), name="readings")
    z = x
    if mean is not None and std is not None:
        scaling = {"axis": -1, "mean": mean.tolist(), "variance": (std**2).tolist()}
        z = keras.layers.Normalization(**scaling, name="normalise")(z)
        z = keras.ops.clip(z, -CLIP, CLIP)
    h = keras.layers.LSTM(units, return_sequences=True, name="lstm")(z)
    near_zero = keras.initializers.RandomNormal(stddev=1e-3)
    y = keras.layers.Dense(channels, kernel_initializer=near_zero, name="correction")(h)
    conv = keras.layers.Conv1D(
        channels, TAPS, padding="causal", use_bias=False, trainable=False, name="linear"
    )
    y = keras.layers.Add(name="sum")([conv(z), y])
    if mean is not None and std is not None:
        y = keras.layers.Normalization(**scaling, invert=True, name="forecast")(y)
    return keras.Model(x, y, name="forecaster")


def _windows(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last `TAPS` readings before each reading from `TAPS` on, (n - TAPS, TAPS * channels)."""
    clipped = np.clip(z, -CLIP, CLIP)
    n = len(z)
    return np.concatenate([clipped[i : n - TAPS + i] for i in range(TAPS)], axis=1)


def _ridge(z: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Ridge autoregression as a convolution kernel, (TAPS, channels, channels).

    Uses the readings whose own past was seen as well.
    """
    n, channels = z.shape
    usable = np.all([seen[i : n - TAPS + i] for i in range(TAPS + 1)], axis=0)
    a, b = _windows(z)[usable], z[TAPS:][usable]
    penalty = 0.5 * TAPS * channels
    solution = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)
    kernel: NDArray[np.float64] = solution.reshape(TAPS, channels, channels)
    return kernel


def _apply_ridge(z: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ridge forecast for each reading; NaN for the first `TAPS`."""
    nothing = np.full((TAPS, z.shape[1]), np.nan)
    return np.concatenate([nothing, _windows(z) @ kernel.reshape(-1, z.shape[1])])


def _rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.nanmean(x**2)))


class _Trainer:
    """Fits the same model again and again; its training step is compiled once."""

    def __init__(
        self,
        model: keras.Model,
        inputs: NDArray[np.float64],
        targets: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> None:
        self._model = model
        self._inputs = inputs.astype(np.float32)
        self._targets = targets.astype(np.float32)
        self._noise = noise
        self._optimizer = keras.optimizers.Adam(1e-3, clipnorm=1.0)
        self._optimizer.build(model.trainable_variables)
        self._fresh = [v.numpy() for v in self._optimizer.variables]
        self._crop = min(_CROP, len(inputs) // (2 * _FOLDS))
        crops = open_signature(_BATCH, inputs.shape[1])
        self._step = tf.function(self._train_step, input_signature=[crops, crops])
        self._forward = forward(model)

    def _train_step(self, x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            error = (self._model(x, training=True) - y)[:, _SETTLING:]
            loss = tf.reduce_mean(tf.square(error))
        variables = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)

    def fit(
        self,
        rng: np.random.Generator,
        seen: NDArray[np.bool_],
        iterations: int,
        held_out: slice | None,
        report: Callable[[int], None],
    ) -> tuple[int, NDArray[np.float64]]:
        """Trains on crops of what may be seen; stops early at the best error on `held_out`.

        Returns:
            The best number of iterations (0 is the linear model alone), and the forecast for
            every reading at that point.
        """
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        best = (0, self._forecast())
        best_error = self._error(best[1], held_out)
        for i, (x, y) in enumerate(self._batches(rng, seen, iterations), start=1):
            self._step(x, y)
            if held_out is not None and i % _EVERY == 0:
                forecast = self._forecast()
                error = self._error(forecast, held_out)
                if error < best_error:
                    best, best_error = (i, forecast), error
            report(i)
        return best

    def _batches(
        self, rng: np.random.Generator, seen: NDArray[np.bool_], count: int
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        crop = self._crop
        whole = np.lib.stride_tricks.sliding_window_view(seen, crop + 1).all(axis=1)
        starts = np.flatnonzero(whole)
        for _ in range(count):
            rows = rng.choice(starts, _BATCH)[:, None] + np.arange(crop)
            x = self._inputs[rows]
            noisy = x + rng.normal(0, 1, x.shape) * self._noise
            yield noisy.astype(np.float32), self._targets[rows + 1]

    def _forecast(self) -> NDArray[np.float64]:
        """The forecast for each reading, made at the reading before; NaN for the first."""
        y = self._forward(self._inputs)
        return np.concatenate([np.full((1, y.shape[1]), np.nan), y[:-1]])

    def _error(self, forecast: NDArray[np.float64], held_out: slice | None) -> float:
        if held_out is None:
            return 0.0
        error = forecast[held_out] - self._targets[held_out]
        return float(np.mean(error[_SETTLING:] ** 2))
