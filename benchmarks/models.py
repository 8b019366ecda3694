"""Trained models to measure fidelity on: `python benchmarks/models.py [--all] [--cache FOLDER]`.

Each is trained on the spot, from a seed, on a task that it ends up doing clearly better than a
trivial answer does; what it reaches and what the trivial answer reaches is printed. Trained
weights and data are kept in the cache folder, so that a second run is quick.

Six models have limits. Four more (`EXTRA`) are harder cases of the same kinds: heavy noise, inputs
so small that every tensor is, a memory of hundreds of steps. They are reported and not judged.

`skab` reads ../shared/data/skab, a recording of a water circulation testbed (SKAB, GPL-3.0, not
part of this project); everything else is made from seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# First, because it settles how TensorFlow is set up.
from edgelstm_quantize.forward import forward  # isort: skip

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

VERSION = 2
"""Of the models: a change makes every cached file stale."""

TEST_STEPS = 100_000
CALIBRATION_STEPS = 4000
SKAB = Path(__file__).parents[2] / "shared/data/skab/data/anomaly-free/anomaly-free.csv"

Batch = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Inputs and what to answer, (batch, time, channels) and (batch, time, targets)."""

_TRAINING_STEPS = 40_000
_BATCH, _CROP = 32, 100
_SETTLING = 10  # first steps of a training crop, left out of the loss
_USUAL = {
    "float32": 1e-4,
    "int8-weight": 0.004,
    "int16x8": 0.004,
    "int8-float": 0.005,
    "int8": 0.012,
}
LIMITS = {
    "sine": _USUAL,
    "gru": _USUAL,
    "cls": _USUAL,
    "skab": _USUAL | {"int8-weight": 0.008, "int16x8": 0.008, "int8": 0.035},
    "smallc": _USUAL,
    "hold": {"float32": 1e-4, "int8-weight": 0.02, "int16x8": 0.02, "int8-float": 0.02},
}
"""Model -> recipe -> largest mean |error| / rms output that passes. A recipe that is not there has
to be refused; a model that is not there is not judged."""


@dataclass(frozen=True)
class Benchmark:
    """A trained model and what to measure it with.

    Attributes:
        name: as the tables have it.
        model: Keras, (batch, time, channels) to (batch, time, targets).
        calibration: readings to calibrate on, float64 (steps, channels).
        test: readings that neither training nor calibration has seen, float64, at least 100,000
            steps.
        task: what the model does, how well, and how well a trivial answer would do.
        notes: what makes the model worth measuring.
    """

    name: str
    model: keras.Model
    calibration: NDArray[np.float64]
    test: NDArray[np.float64]
    task: str
    notes: str


def sine() -> Benchmark:
    """LSTM(32) x 2, forecasts three mixtures of sines of unit size."""
    return _two_lstms("sine", _sines, 7)


def noisy() -> Benchmark:
    """LSTM(32) x 2, forecasts three mixtures of sines whose phases wander, in AR noise."""
    return _two_lstms("noisy", _waves, 1)


def gru() -> Benchmark:
    """GRU(32), forecasts three mixtures of sines of unit size."""
    return _one_gru("gru", _sines, 8)


def noisy_gru() -> Benchmark:
    """GRU(32), forecasts a plant that follows a set point and is pushed about."""
    return _one_gru("noisy_gru", _plant, 2)


def cls() -> Benchmark:
    """LSTM(64), says at every step which of four regimes a machine is in."""
    keras.utils.set_random_seed(3)
    x, regime = _machine(np.random.default_rng(31), _TRAINING_STEPS)
    answer = keras.layers.Dense(_REGIMES, activation="softmax")
    model = _sequential("cls", 3, keras.layers.LSTM(64, return_sequences=True), answer)
    _fit(model, _crops(x, np.eye(_REGIMES)[regime], np.random.default_rng(3)), _entropy, 700)
    calibration, _ = _machine(np.random.default_rng(32), CALIBRATION_STEPS)
    test, truth = _machine(np.random.default_rng(33), TEST_STEPS)
    p = forward(model)(test[:10_000])
    right = np.mean(p.argmax(axis=1) == truth[:10_000])
    floor = np.bincount(truth).max() / len(truth)
    task = f"accuracy {right:.3f} (always the same answer: {floor:.3f})"
    notes = f"mean confidence {p.max(axis=1).mean():.3f}"
    return Benchmark("cls", model, calibration, test, task, notes)


def skab() -> Benchmark:
    """LSTM(48) between Normalization layers, forecasts the 8 channels of a real testbed.

    The first 70 % of the recording train and calibrate. The rest is played forwards and backwards
    in turns until there are enough test steps.
    """
    values = _read_skab()
    split = int(len(values) * 0.7)
    seen, rest = values[:split], values[split:]
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    keras.utils.set_random_seed(4)
    layers = [keras.layers.LSTM(48, return_sequences=True), keras.layers.Dense(8)]
    normalised = _sequential("normalised", 8, *layers)
    crops = _forecast_crops((seen - mean) / std, np.random.default_rng(4))
    _fit(normalised, crops, _squared, 500)
    scaling = {"axis": -1, "mean": mean.tolist(), "variance": (std**2).tolist()}
    before = keras.layers.Normalization(**scaling)
    after = keras.layers.Normalization(invert=True, **scaling)
    model = _sequential("skab", 8, before, *layers, after)
    there_and_back = np.concatenate([rest, rest[::-1]])
    test = np.tile(there_and_back, (-(-TEST_STEPS // len(there_and_back)), 1))[:TEST_STEPS]
    task = _forecast_skill(model, rest, std)
    notes = f"{len(seen)} steps to train and calibrate, {len(rest)} to test, there and back"
    return Benchmark("skab", model, seen, test, task, notes)


def smallc() -> Benchmark:
    """LSTM(64) on inputs of unit variance, trained to keep its cell state small.

    That is what the stock converter's fused op cannot do.
    """
    keras.utils.set_random_seed(9)

    def draw(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
        return 2**0.5 * _sines(rng, steps)

    train = draw(np.random.default_rng(91), _TRAINING_STEPS)
    layer, dense = keras.layers.LSTM(64, return_sequences=True), keras.layers.Dense(3)
    model = _sequential("smallc", 3, layer, dense)
    inputs = keras.Input((None, 3))
    h_and_c = keras.layers.RNN(_WithCellState(layer.cell), return_sequences=True)(inputs)
    h, c = h_and_c[..., :64], h_and_c[..., 64:]
    inside = keras.Model(inputs, keras.layers.Concatenate()([dense(h), c]), name="smallc")

    def loss(y_and_c: Any, target: Any) -> Any:
        y, c = y_and_c[..., :3], y_and_c[..., 3:]
        excess = tf.nn.relu(tf.abs(c) - 0.45)
        return _squared(y, target) + 10 * tf.reduce_mean(tf.reduce_sum(tf.square(excess), axis=-1))

    _fit(inside, _forecast_crops(train, np.random.default_rng(9)), loss, 900)
    return _with_cell_state(_forecaster("smallc", model, draw, 92), layer)


def tiny() -> Benchmark:
    """LSTM(64) whose cell state is small because its inputs are: every tensor is."""
    keras.utils.set_random_seed(5)

    def draw(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
        return 0.14 * _waves(rng, steps)

    train = draw(np.random.default_rng(51), _TRAINING_STEPS)
    layer = keras.layers.LSTM(64, return_sequences=True)
    model = _sequential("tiny", 3, layer, keras.layers.Dense(3))
    crops = _forecast_crops(train, np.random.default_rng(5))
    _fit(model, crops, _squared, 600, decay=2e-5)
    return _with_cell_state(_forecaster("tiny", model, draw, 52), layer)


def hold() -> Benchmark:
    """LSTM(32) with a long memory: it holds what channel 0 was when channel 1 last pulsed.

    A pulse comes every 30 to 120 steps.
    """
    return _holder("hold", 10, ((100, (5, 50), 500), (300, (30, 120), 300)))


def hold300() -> Benchmark:
    """The same with a pulse every 50 to 300 steps."""
    lessons = ((100, (5, 50), 500), (300, (20, 150), 200), (600, (50, 300), 100))
    return _holder("hold300", 6, lessons)


MODELS: dict[str, Callable[[], Benchmark]] = {
    f.__name__: f for f in (sine, gru, cls, skab, smallc, hold, noisy, noisy_gru, tiny, hold300)
}
EXTRA = tuple(name for name in MODELS if name not in LIMITS)


def load(name: str, cache: Path) -> Benchmark:
    """A benchmark from the cache folder, or trained now and put there."""
    stem = f"{name}-v{VERSION}"
    model, arrays, text = (cache / f"{stem}{suffix}" for suffix in (".keras", ".npz", ".json"))
    if not text.exists():
        started = time.process_time()
        made = MODELS[name]()
        print(f"{name}: trained in {time.process_time() - started:.0f} s of CPU", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        made.model.save(model)
        np.savez(arrays, calibration=made.calibration, test=made.test)
        said = {"task": made.task, "notes": made.notes}
        text.write_text(json.dumps(said))  # last: it says that the rest is there
    with np.load(arrays) as kept:
        calibration, test = kept["calibration"], kept["test"]
    loaded = keras.models.load_model(model)
    said = json.loads(text.read_text())
    return Benchmark(name, loaded, calibration, test, **said)


def default_cache() -> Path:
    """Where models are kept unless told otherwise."""
    return Path(tempfile.gettempdir()) / "edgelstm-benchmark-models"


def run_lstm(
    layer: keras.layers.LSTM, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What goes on inside an LSTM layer over one sequence, (steps, inputs), from zero states.

    Returns:
        The outputs h, the cell states c and the forget gates f, each (steps, units).
    """
    kernel, recurrent, bias = (np.asarray(w, np.float64) for w in layer.get_weights())
    units = len(recurrent)
    z = x @ kernel + bias
    h, c = np.zeros(units), np.zeros(units)
    kept = np.empty((3, len(x), units))
    for t in range(len(x)):
        i, f, g, o = np.split(z[t] + h @ recurrent, 4)
        f = _sigmoid(f)
        c = f * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        kept[:, t] = h, c, f
    return kept[0], kept[1], kept[2]


def _sequential(name: str, channels: int, *layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((None, channels)), *layers], name=name)


Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
"""Makes a recording, (steps, channels), of so many steps."""


def _two_lstms(name: str, draw: Draw, seed: int) -> Benchmark:
    keras.utils.set_random_seed(seed)
    train = draw(np.random.default_rng(10 * seed + 1), _TRAINING_STEPS)
    model = _sequential(
        name,
        3,
        keras.layers.LSTM(32, return_sequences=True),
        keras.layers.LSTM(32, return_sequences=True),
        keras.layers.Dense(3),
    )
    _fit(model, _forecast_crops(train, np.random.default_rng(seed)), _squared, 900)
    return _forecaster(name, model, draw, 10 * seed + 2)


def _one_gru(name: str, draw: Draw, seed: int) -> Benchmark:
    keras.utils.set_random_seed(seed)
    train = draw(np.random.default_rng(10 * seed + 1), _TRAINING_STEPS)
    layer = keras.layers.GRU(32, return_sequences=True)
    model = _sequential(name, 3, layer, keras.layers.Dense(3))
    _fit(model, _forecast_crops(train, np.random.default_rng(seed)), _squared, 1200)
    return _forecaster(name, model, draw, 10 * seed + 2)


def _forecaster(name: str, model: keras.Model, draw: Draw, seed: int) -> Benchmark:
    calibration = draw(np.random.default_rng(seed), CALIBRATION_STEPS)
    test = draw(np.random.default_rng(seed + 1), TEST_STEPS)
    task = _forecast_skill(model, test[:10_000], test.std(axis=0))
    notes = f"mean |y| {np.abs(forward(model)(test[:10_000])).mean():.2f}"
    return Benchmark(name, model, calibration, test, task, notes)


Lesson = tuple[int, tuple[int, int], int]
"""Steps in a sequence, least and most steps between pulses, iterations."""


def _holder(name: str, seed: int, lessons: tuple[Lesson, ...]) -> Benchmark:
    """Trains on one lesson after the other; the gaps of the last are those to be measured."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.LSTM(32, return_sequences=True)
    model = _sequential(name, 2, layer, keras.layers.Dense(1))
    *_, (_, last, _) = lessons
    # Chrono initialisation: time constants spread over the lengths there are to remember.
    kernel, recurrent, bias = layer.get_weights()
    forget = np.log(np.random.default_rng(10 * seed + 1).uniform(2, last[1], 32))
    bias[:32], bias[32:64] = -forget, forget
    layer.set_weights([kernel, recurrent, bias])
    rng = np.random.default_rng(seed)
    for length, gaps, iterations in lessons:

        def draw(length: int = length, gaps: tuple[int, int] = gaps) -> Batch:
            pairs = [_pulses(rng, length, gaps) for _ in range(_BATCH)]
            return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

        _fit(model, draw, _squared, iterations, rate=5e-3)
    calibration, _ = _pulses(np.random.default_rng(10 * seed + 2), CALIBRATION_STEPS, last)
    test, truth = _pulses(np.random.default_rng(10 * seed + 3), TEST_STEPS, last)
    y = forward(model)(test[:10_000])
    error, floor = _rms(y - truth[:10_000]), _rms(truth[:10_000])
    task = f"rms error {error:.3f} (always 0: {floor:.3f})"
    _, _, f = run_lstm(layer, test[:10_000])
    tau = -1 / np.log(f).mean(axis=0)
    quantiles = ", ".join(f"{q:.0f}" for q in np.quantile(tau, [0, 0.25, 0.5, 0.75, 1]))
    notes = f"forget time constants (quartiles): {quantiles} steps"
    return Benchmark(name, model, calibration, test, task, notes)


class _WithCellState(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """An LSTM cell that gives h and c side by side, so that a loss can see both."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = 2 * cell.units

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        _, (h, c) = self.cell(inputs, states, training=training)
        return keras.ops.concatenate([h, c], axis=-1), [h, c]


def _with_cell_state(benchmark: Benchmark, layer: keras.layers.LSTM) -> Benchmark:
    """Notes how large the cell state of the model's LSTM gets."""
    _, calibration, _ = run_lstm(layer, benchmark.calibration)
    _, test, _ = run_lstm(layer, benchmark.test)
    units = np.maximum(np.abs(calibration).max(axis=0), np.abs(test).max(axis=0))
    if units.max() > 0.6:
        raise RuntimeError(
            f"{benchmark.name} has |c| up to {units.max():.2f}; it is to stay small."
        )
    notes = (
        f"largest |c| {units.max():.2f}, below 0.5 in {(units < 0.5).sum()} of {len(units)} units"
    )
    return replace(benchmark, notes=f"{benchmark.notes}, {notes}")


def _forecast_skill(model: keras.Model, x: NDArray[np.float64], std: NDArray[np.float64]) -> str:
    z = x / std
    y = forward(model)(x) / std
    error, persistence, constant = (
        _rms(z[1:] - y[:-1]),
        _rms(np.diff(z, axis=0)),
        _rms(z - z.mean(0)),
    )
    return (
        f"rms error {error:.3f} std (the last value again: {persistence:.3f}, "
        f"always the mean: {constant:.3f})"
    )


def _rms(x: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(x**2)))


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * z))


# Training


def _fit(
    model: keras.Model,
    draw: Callable[[], Batch],
    loss: Callable[[Any, Any], Any],
    iterations: int,
    *,
    rate: float = 3e-3,
    decay: float | None = None,
) -> None:
    """Trains with Adam, its rate falling to zero along a cosine; a compiled step, not `fit`."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, iterations)
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0, weight_decay=decay)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]  # tensorflow has no types
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(model(x, training=True)[:, _SETTLING:], y[:, _SETTLING:])
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    for i in range(iterations):
        x, y = draw()
        value = step(tf.constant(x, tf.float32), tf.constant(y, tf.float32))
        if (i + 1) % 100 == 0:
            print(f"{model.name}: {i + 1} of {iterations}: {float(value):.5f}", file=sys.stderr)


def _squared(y: Any, target: Any) -> Any:
    return tf.reduce_mean(tf.square(y - target))


def _entropy(p: Any, target: Any) -> Any:
    return -tf.reduce_mean(tf.reduce_sum(target * tf.math.log(p + 1e-7), axis=-1))


def _crops(
    x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator
) -> Callable[[], Batch]:
    def draw() -> Batch:
        rows = rng.integers(0, len(x) - _CROP, _BATCH)[:, None] + np.arange(_CROP)
        return x[rows], y[rows]

    return draw


def _forecast_crops(x: NDArray[np.float64], rng: np.random.Generator) -> Callable[[], Batch]:
    return _crops(x[:-1], x[1:], rng)


# Data


def _autoregressive(
    rng: np.random.Generator, shape: tuple[int, int], memory: float
) -> NDArray[np.float64]:
    """First-order noise of unit variance, (steps, channels)."""
    x = rng.normal(0, 1, shape)
    kick = np.sqrt(1 - memory**2)
    for t in range(1, len(x)):
        x[t] = memory * x[t - 1] + kick * x[t]
    return x


def _sines(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Three channels of mixed sines, each with the power of one of unit amplitude; little noise."""
    periods = np.array([17.3, 28.9, 53.1])
    phase = rng.uniform(0, 2 * np.pi, 3) + np.arange(steps)[:, None] * 2 * np.pi / periods
    mixing = np.array([[0.8, 0.6, 0.0], [0.0, 0.8, 0.6], [0.6, 0.0, 0.8]])
    x: NDArray[np.float64] = np.sin(phase) @ mixing.T
    return x + rng.normal(0, 0.03, x.shape)


def _waves(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """Three channels of mixed sines whose phases wander, plus autoregressive noise."""
    periods = np.array([17.0, 29.0, 53.0])
    phase = np.cumsum(2 * np.pi / periods + rng.normal(0, 0.02, (steps, 3)), axis=0)
    mixing = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.6], [0.5, 0.0, 1.0]])
    x: NDArray[np.float64] = np.sin(phase) @ mixing.T
    return x + 0.15 * _autoregressive(rng, (steps, 3), 0.6)


def _plant(rng: np.random.Generator, steps: int) -> NDArray[np.float64]:
    """A set point that jumps, a damped oscillator that follows it, and its speed; noisy."""
    jumps = rng.random(steps) < 1 / 60
    levels = rng.uniform(-1, 1, jumps.sum() + 1)
    target = levels[np.cumsum(jumps)]
    push = 0.1 * _autoregressive(rng, (steps, 1), 0.9)[:, 0]
    place, speed = np.zeros(steps), np.zeros(steps)
    for t in range(1, steps):
        force = 0.04 * (target[t - 1] - place[t - 1]) - 0.12 * speed[t - 1] + 0.1 * push[t]
        speed[t] = speed[t - 1] + force
        place[t] = place[t - 1] + speed[t]
    clean = np.stack([target, place, 5 * speed], axis=1)
    return clean + rng.normal(0, 0.05, clean.shape)


_REGIMES = 4


def _machine(rng: np.random.Generator, steps: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Three noisy vibration channels and the regime (steps,) that made them.

    A regime lasts at least 40 steps, 150 on average; they differ in frequency and waveform.
    """
    regime = np.empty(0, np.int64)
    while len(regime) < steps:
        length = 40 + int(rng.exponential(110))
        regime = np.append(regime, np.full(length, rng.integers(_REGIMES)))
    regime = regime[:steps]
    frequency = 2 * np.pi / np.array([9.0, 11.0, 14.0, 18.0])
    harmonic = np.array([0.0, 0.5, 0.2, 0.6])
    phase = np.cumsum(frequency[regime] + rng.normal(0, 0.05, steps))
    second = harmonic[regime]
    clean = [np.sin(phase + k) + second * np.sin(2 * phase + k) for k in range(3)]
    return np.stack(clean, axis=1) + rng.normal(0, 0.5, (steps, 3)), regime


def _pulses(
    rng: np.random.Generator, steps: int, gaps: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A wandering signal beside rare pulses, and what the signal was at the last pulse.

    Returns:
        Inputs (steps, 2) and targets (steps, 1), which are 0 before the first pulse.
    """
    signal = np.tanh(_autoregressive(rng, (steps, 1), 0.9)[:, 0])
    pulse, target = np.zeros(steps), np.zeros(steps)
    at = int(rng.integers(0, gaps[0]))
    while at < steps:
        pulse[at] = 1
        target[at:] = signal[at]
        at += int(rng.integers(*gaps))
    return np.stack([signal, pulse], axis=1), target[:, None]


def _read_skab() -> NDArray[np.float64]:
    if not SKAB.exists():
        sys.exit(f"There is no {SKAB}; leave skab out with --models.")
    with SKAB.open() as file:
        rows = list(csv.reader(file, delimiter=";"))[1:]
    return np.array([[float(cell) for cell in row[1:]] for row in rows])


def main() -> None:
    """Trains what the cache does not have and prints what each model does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(LIMITS))
    parser.add_argument("--all", action="store_true", help="those without a limit, too")
    options = parser.parse_args()
    for name in MODELS if options.all else options.models:
        benchmark = load(name, options.cache)
        print(f"{name}: {'; '.join(filter(None, (benchmark.task, benchmark.notes)))}")


if __name__ == "__main__":
    main()
