"""Trains a model on recordings of normal operation; the default is a hybrid forecaster.

A hybrid's forecast of the reading `horizon` steps later is

    CausalConv1D(targets, taps)(z) + Dense(targets)(LSTM(units)(z)),

with `z` the normalised readings, clipped at 8 standard deviations (those of an LSTM or GRU alone at
4). The convolution is solved by ridge regression and frozen. The dense layer starts near zero, so
training starts at the ridge solution, and early stopping never leaves it for something worse: on
short recordings a linear model is hard to beat, on longer ones the LSTM adds what is not linear.

Each reading is also predicted by a model that has not seen it (three contiguous folds). These
out-of-fold residuals are what a threshold can be set on; the residuals of the final model on its
own training data are too small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError, ModelError, RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize import keras_files
from edgelstm_quantize.encoding import fit_encoding
from edgelstm_quantize.excerpts import are_within, take_excerpts
from edgelstm_quantize.fitting import Fit, Fitter
from edgelstm_quantize.forecasters import (
    WINDOW,
    Architecture,
    build_model,
    build_network,
    start_weights,
)
from edgelstm_quantize.forecasting import Forecasting
from edgelstm_quantize.horizons import find_horizon
from edgelstm_quantize.keras_files import TrainingRecord, fingerprint
from edgelstm_quantize.limits import training_readings
from edgelstm_quantize.progress import Progress, silent
from edgelstm_quantize.reconstruction import Reconstruction
from edgelstm_quantize.sequences import Batch, blocks, outside
from edgelstm_quantize.training_data import TrainingData, prepare
from edgelstm_quantize.training_remarks import few_readings

_FOLDS = 3
_ITERATIONS = 1200
_PATIENCE = 200

Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        model: takes and gives physical units, (batch, time, channels).
        record: what `quantize` needs to know about the training.
        kind: of the model, one of `forecasters.KINDS`.
        ridge_error: out-of-fold rms error of the linear part alone, normalised; for an
            autoencoder that of a linear reconstruction (`Reconstruction.solve`).
        error: the same of the whole model.
        iterations: of the final fit; few mean that the network found little to add.
        curves: for each fold (iteration, held-out rms error, normalised); empty for a ridge.
        best: of each fold the iteration that was taken.
        std: of each target, physical units, (targets,); 0 for one that never changes.
        rms: of the out-of-fold residuals of each target, physical units, (targets,).
        ridge_rms: the same of the linear part alone.
        remarks: sentences for people.
    """

    model: keras.Model
    record: TrainingRecord
    kind: str
    ridge_error: float
    error: float
    iterations: int
    curves: tuple[Curve, ...]
    best: tuple[int, ...]
    std: tuple[float, ...]
    rms: tuple[float, ...]
    ridge_rms: tuple[float, ...]
    remarks: tuple[str, ...]


def train(
    data: Recording | Sequence[Recording] | TrainingData,
    *,
    model: str = "hybrid",
    units: int = 32,
    layers: int = 1,
    horizon: int | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    seed: int = 0,
    warm_start: str | Path | keras.Model | None = None,
    targets: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    iterations: int | None = None,
    patience: int | None = None,
    on_progress: Progress = silent,
) -> Trained:
    """Trains a model on recordings of normal operation.

    Args:
        data: at least 180 readings, evenly sampled: one recording, several of the same channels,
            or what `training_data.prepare` made of them.
        model: "hybrid", "ridge" (its linear part alone), "lstm", "gru" or "autoencoder".
        units: of each recurrent layer.
        layers: recurrent layers on top of one another.
        horizon: steps ahead of the forecast; by default as `horizons` chooses.
        dropout: share of the outputs of the recurrent layers left out at each step of training.
        window: readings that an autoencoder reconstructs, 32 by default.
        seed: 0 to 2**32 - 1; the same one gives the same model on the same machine.
        warm_start: a model of the same make, or its file. The recurrent and dense layers start
            from its weights where their shapes fit; scaling and linear part are new.
        targets: names of the channels to forecast; by default all but the categorical ones.
        categorical: names of channels that hold codes. The model sees them one-hot.
        iterations: of a fit at most.
        patience: iterations without progress on the held-out readings after which a fit stops.
        on_progress: told what is going on.

    Raises:
        RecordingError: the recordings are too short, do not fit each other or never change, or a
            channel is not there.
        ConfigurationError: an option makes no sense.
        ModelError: the model to start from cannot be read, or is of another make.
    """
    if model == "autoencoder" and window is None:
        window = WINDOW
    architecture = Architecture(model, units, layers, dropout, window)
    least = 1 if horizon is None else horizon
    _check_options(architecture, least, iterations, patience, warm=warm_start is not None)
    if not 0 <= seed < 2**32:
        raise ConfigurationError(f"A seed is a whole number from 0 to 2**32 - 1, but it is {seed}.")
    ready = _ready(data, targets, categorical, architecture, least)
    if horizon is None:
        horizon = 1 if architecture.window else find_horizon(ready)
    keras.utils.set_random_seed(seed)
    limits = (
        _ITERATIONS if iterations is None else iterations,
        _PATIENCE if patience is None else patience,
    )
    return _Job(ready, architecture, horizon, seed, limits, on_progress).run(warm_start)


class _Task(Protocol):
    """What a network is fitted to and judged by; `linear` is what it is compared with."""

    def solve(self, seen: NDArray[np.bool_]) -> NDArray[np.float64]: ...

    def draw(
        self, linear: NDArray[np.float64], seen: NDArray[np.bool_], rng: np.random.Generator
    ) -> Callable[[], Batch]: ...

    def held_out(self, linear: NDArray[np.float64], block: tuple[int, int]) -> Batch: ...

    def residuals(
        self, network: keras.Model | None, linear: NDArray[np.float64], block: tuple[int, int]
    ) -> NDArray[np.float64]: ...


class _Job:
    """One training: the folds, and then the final fit on everything."""

    def __init__(
        self,
        data: TrainingData,
        architecture: Architecture,
        horizon: int,
        seed: int,
        limits: tuple[int, int],
        on_progress: Progress,
    ) -> None:
        self._data, self._architecture, self._horizon = data, architecture, horizon
        self._seed, self._limits, self._on_progress = seed, limits, on_progress
        self._remarks = [*data.remarks, *few_readings(len(data))]
        self._encoding = fit_encoding(data, architecture.clip)
        self._columns = [data.channels.index(name) for name in data.targets]
        self._folds = blocks(len(data), _FOLDS)
        self._task: _Task = (
            Forecasting(data, self._encoding, horizon, self._folds)
            if architecture.window is None
            else Reconstruction(
                data, self._encoding, architecture.window, architecture.units, self._folds
            )
        )

    def run(self, warm_start: str | Path | keras.Model | None) -> Trained:
        """Trains. Raises what `start_weights` and `keras_files.load` do."""
        everything = np.ones(len(self._data), bool)
        fitter = self._fitter(warm_start)
        network = fitter.network if fitter else None
        fits, best, found, floor = [], [], [], []
        for k, block in enumerate(self._folds):
            seen = outside(block, len(self._data))
            ridge, linear = self._solve(seen)
            if fitter:
                name = f"fold {k + 1} of {_FOLDS}"
                fits.append(self._fit(fitter, name, linear, seen, self._limits, block))
                best.append(fits[-1].iterations)
            found.append(self._task.residuals(network, linear, block))
            floor.append(self._task.residuals(None, ridge, block))
            if best and self._architecture.linear and _rms(found[-1]) > _rms(floor[-1]):
                # Over so long a run the states went astray: the linear part alone is better.
                best[-1], found[-1] = 0, floor[-1]
        iterations = round(float(np.mean(best))) if best else 0
        _, linear = self._solve(everything)
        if fitter:
            self._fit(fitter, "final model", linear, everything, (iterations, iterations), None)
        z, ridge_z = np.concatenate(found), np.concatenate(floor)
        std = self._encoding.std[self._columns]
        constant = [column in self._encoding.constant for column in self._columns]
        return Trained(
            model=build_model(
                self._architecture,
                self._encoding,
                self._columns,
                network=network,
                kernel=linear if self._architecture.linear else None,
            ),
            record=self._record(z),
            kind=self._architecture.kind,
            ridge_error=_rms(ridge_z),
            error=_rms(z),
            iterations=iterations,
            curves=tuple(fit.curve for fit in fits),
            best=tuple(best),
            std=tuple(np.where(constant, 0.0, std).tolist()),
            rms=tuple((_rms_of_each(z, len(std)) * std).tolist()),
            ridge_rms=tuple((_rms_of_each(ridge_z, len(std)) * std).tolist()),
            remarks=tuple(self._remarks),
        )

    def _fitter(self, warm_start: str | Path | keras.Model | None) -> Fitter | None:
        """What fits the network, where there is one to fit."""
        architecture, width = self._architecture, self._encoding.width
        network = build_network(architecture, width, len(self._columns))
        if network is None:
            return None
        start = network.get_weights()
        if warm_start is not None:
            source, where, excerpts = _open(warm_start)
            start = start_weights(network, architecture, source, where)
            if are_within(excerpts, self._data.values):
                self._remarks.append(
                    f"{where} was trained on some of these readings, so the errors on readings it "
                    "had not seen are too small, and so may be a threshold that is set on them; "
                    "start from a model of other readings, or leave out the warm start."
                )
        return Fitter(network, start)

    def _solve(self, seen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The linear part to compare with, and the one that the model has (zeros if none)."""
        ridge = self._task.solve(seen)
        return ridge, ridge if self._architecture.linear else np.zeros_like(ridge)

    def _fit(
        self,
        fitter: Fitter,
        name: str,
        linear: NDArray[np.float64],
        seen: NDArray[np.bool_],
        limits: tuple[int, int],
        block: tuple[int, int] | None,
    ) -> Fit:
        iterations, patience = limits
        return fitter.fit(
            self._task.draw(linear, seen, np.random.default_rng(self._seed)),
            self._task.held_out(linear, block) if block else None,
            iterations,
            patience,
            lambda i: self._on_progress(name, i, iterations),
        )

    def _record(self, residuals: NDArray[np.float64]) -> TrainingRecord:
        data, window = self._data, self._architecture.window
        std = np.tile(self._encoding.std[self._columns], window or 1)
        return TrainingRecord(
            channels=data.channels,
            horizon=0 if window else self._horizon,
            data_sha256=fingerprint(data.values),
            residuals=residuals * std,
            targets=data.targets,
            categories=tuple(data.texts.get(name) for name in data.channels),
            task="reconstruction" if window else "forecast",
            sample_period=data.sample_period,
            categorical=tuple(name for name in data.channels if name in data.categories),
            resampled=data.resampled,
            excerpts=take_excerpts(data.values),
        )


def _check_options(
    architecture: Architecture,
    horizon: int,
    iterations: int | None,
    patience: int | None,
    *,
    warm: bool,
) -> None:
    if horizon < 1:
        raise ConfigurationError(f"A horizon of {horizon} forecasts nothing; give at least 1.")
    if (iterations is not None and iterations < 0) or (patience is not None and patience < 1):
        raise ConfigurationError(
            "A fit cannot take fewer than no iterations, or have a patience below 1; give more, or "
            "leave both out."
        )
    if architecture.window is not None and horizon != 1:
        raise ConfigurationError(
            "An autoencoder forecasts nothing, so it has no horizon; leave it out, or train a "
            "forecaster."
        )
    if warm and architecture.kind == "ridge":
        raise ConfigurationError(
            "A ridge is solved, not trained, so it starts from nothing; leave out the warm start."
        )


def _ready(
    data: Recording | Sequence[Recording] | TrainingData,
    targets: Sequence[str] | None,
    categorical: Sequence[str],
    architecture: Architecture,
    horizon: int,
) -> TrainingData:
    """The data as the fits take it, checked."""
    if not isinstance(data, TrainingData):
        recordings = [data] if isinstance(data, Recording) else data
        data = prepare(recordings, targets=targets, categorical=categorical)
    elif targets is not None or categorical:
        raise ConfigurationError(
            "The data are prepared already; name targets and categorical channels there."
        )
    for name in data.targets:
        if name not in data.channels or name in data.categories:
            raise RecordingError(
                f"The target {name!r} is no channel of numbers; those are "
                f"{', '.join(c for c in data.channels if c not in data.categories)}."
            )
    if architecture.window is not None and data.targets != data.channels:
        raise ConfigurationError(
            "An autoencoder reconstructs every channel, so it has no targets and no categorical "
            "channels; leave them out with --columns, or train a forecaster."
        )
    need = training_readings(horizon, architecture.window)
    if len(data) < need:
        what = f"training with windows of {architecture.window} readings"
        if architecture.window is None:
            what = f"training a forecast {horizon} ahead" if horizon > 1 else "training"
        raise RecordingError(
            f"The recording has {len(data)} rows here; {what} needs at least {need}."
        )
    return data


def _open(source: str | Path | keras.Model) -> tuple[keras.Model, str, tuple[str, ...]]:
    """A model to start from, what to call it, and excerpts of what it was trained on, if known."""
    if isinstance(source, (str, Path)):
        model, record = keras_files.load(Path(source))
        return model, str(source), record.excerpts if record else ()
    if not isinstance(source, keras.Model):
        raise ModelError(f"The warm start is a {type(source).__name__}, not a Keras model.")
    return source, f"The model {source.name!r}", ()


def _rms(residuals: NDArray[np.float64]) -> float:
    return float(_rms_of_each(residuals, 1)[0])


def _rms_of_each(residuals: NDArray[np.float64], targets: int) -> NDArray[np.float64]:
    """Of each target, (targets,), from (readings, [window x] targets); NaN counts as missing."""
    rows = residuals.reshape(-1, targets)
    known = np.maximum(np.isfinite(rows).sum(axis=0), 1)
    rms: NDArray[np.float64] = np.sqrt(np.nansum(rows**2, axis=0) / known)
    return rms
