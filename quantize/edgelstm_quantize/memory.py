"""How long a model remembers, and whether an integer state can.

A state that decays by itself, `s' = f s + ...`, loses (1 - f) s in a step. In integers it loses
nothing once that is below half a code: it sticks at about 0.5 tau / 2^(bits - 1) of full scale
with the time constant tau = -1 / mean(ln f) in steps. That is its deadband.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.calibration import Calibration
from edgelstm_quantize.step_graph import StepGraph

_TOO_MUCH = 0.1  # median deadband over what units use of their range
_SHORT = 8.0  # steps; below, a state sticks at four codes or fewer, which is mere rounding


@dataclass(frozen=True)
class Memory:
    """How one state remembers.

    Attributes:
        layer: the layer it belongs to.
        state: its name in the graph.
        time_constants: tau of each unit in steps, (units,).
        deadband: median over the units of deadband / largest |value|, for int8; 1 at most.
    """

    layer: str
    state: str
    time_constants: NDArray[np.float64]
    deadband: float

    @property
    def too_long_for_int8(self) -> bool:
        """Whether an int8 state would stick where it should decay."""
        return self.deadband > _TOO_MUCH and float(np.median(self.time_constants)) > _SHORT


def measure_memory(steps: StepGraph, calibration: Calibration) -> list[Memory]:
    """Measures the states that decay by themselves.

    What a state keeps of itself is the forget gate of an LSTM and the update gate of a GRU. For
    any other cell it is the derivative of the new state by the old one, where that is diagonal
    (which is tested with a random vector).

    Args:
        steps: the graph of floats or of integers; both compute the same.
        calibration: what its calibration run saw.
    """
    kept = _retention(steps, calibration.samples, calibration.sample_states)
    found = []
    for i, factors in enumerate(kept):
        if factors is None:
            continue
        decay = np.log(np.clip(factors, 1e-6, 1 - 1e-7)).mean(axis=0)
        tau = (-1 / decay).reshape(-1).astype(np.float64)
        units = calibration.unit_ranges[i].reshape(-1)
        used = units > 1e-6 * units.max(initial=1e-12)
        full_scale = float(units.max(initial=0.0))
        stuck = 0.5 * tau / 128 * full_scale
        relative = np.minimum(stuck / np.maximum(units, 1e-12), 1)
        deadband = float(np.median(relative[used])) if used.any() else 0.0
        found.append(Memory(steps.state_owners[i], f"state_{i}", tau, deadband))
    return found


def _retention(
    steps: StepGraph, samples: Mapping[str, NDArray[Any]], states: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32] | None]:
    """What each state kept of itself at each sample, (samples, *shape); None where unknown."""
    if not states or not len(states[0]):
        return []

    def probe(inputs: Mapping[str, Any], held: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(held)
            done = steps(inputs, held)
            signs = [
                tf.sign(tf.random.stateless_uniform(tf.shape(s), (i, 7), -1, 1))
                for i, s in enumerate(held)
            ]
            sums = [tf.reduce_sum(s) for s in done.states]
            signed = [tf.reduce_sum(s * sign) for s, sign in zip(done.states, signs, strict=True)]
        known, mixed = [], []
        for s, total, other, sign, kept in zip(
            held, sums, signed, signs, done.retention, strict=True
        ):
            plain = tape.gradient(total, s)
            known.append(kept if kept is not None else _or_nan(plain, s))
            turned = tape.gradient(other, s)
            mixed.append(tf.zeros_like(s) if kept is not None else _or_nan(turned, s) * sign)
        return known, mixed

    known, mixed = tf.function(probe, autograph=False)(
        {n: tf.constant(v) for n, v in samples.items()}, [tf.constant(s) for s in states]
    )
    result: list[NDArray[np.float32] | None] = []
    for i, (factor, other) in enumerate(zip(known, mixed, strict=True)):
        own = factor.numpy()
        # A diagonal Jacobian gives the same whatever the vector it is multiplied with.
        diagonal = not other.numpy().any() or np.allclose(own, other.numpy(), atol=1e-4)
        decays = bool(np.isfinite(own).all() and own.any() and (own >= 0).all())
        result.append(own if diagonal and decays and len(states[i].shape) == 2 else None)
    return result


def _or_nan(gradient: Any, like: Any) -> Any:
    return tf.fill(tf.shape(like), np.nan) if gradient is None else gradient
