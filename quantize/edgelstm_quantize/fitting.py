"""The training loop: one network fitted again and again, by a step that is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm_quantize.sequences import Batch

_RATE = 1e-3
_NORM = 1.0  # of a gradient, above which it is shortened
_EARLY = 100  # iterations in which the held-out sequences are looked at more often
_EVERY = 10, 25  # iterations between two such looks, early and later


@dataclass(frozen=True)
class Fit:
    """What a fit came to; the network has the weights of its best iteration.

    Attributes:
        iterations: after which the held-out error was least; all of them where nothing was held
            out.
        curve: (iteration, rms error on the held-out sequences), from iteration 0 on.
    """

    iterations: int
    curve: tuple[tuple[int, float], ...]


class Fitter:
    """Fits a network to sequences with Adam on the mean square error.

    Args:
        network: from features to outputs.
        start: the weights that every fit starts from.
    """

    def __init__(self, network: keras.Model, start: list[NDArray[np.float32]]) -> None:
        self.network = network
        self._start = start
        self._optimizer = keras.optimizers.Adam(_RATE, clipnorm=_NORM)
        self._optimizer.build(network.trainable_variables)
        self._fresh = [v.numpy() for v in self._optimizer.variables]
        # XLA runs the loop over the steps of a sequence three times as fast as TensorFlow does.
        self._step = tf.function(self._train_step, jit_compile=True)
        self._errors = tf.function(self._squared_error, jit_compile=True)

    def _train_step(self, x: Any, y: Any, weight: Any) -> None:
        with tf.GradientTape() as tape:
            error = tf.square(self.network(x, training=True) - y) * weight
            loss = tf.reduce_sum(error) / tf.maximum(tf.reduce_sum(weight), 1.0)
        variables = self.network.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)

    def _squared_error(self, x: Any, y: Any, weight: Any) -> Any:
        return tf.reduce_sum(tf.square(self.network(x, training=False) - y) * weight)

    def fit(
        self,
        draw: Callable[[], Batch],
        held_out: Batch | None,
        iterations: int,
        patience: int,
        report: Callable[[int], None],
    ) -> Fit:
        """Starts anew and fits; stops early where the held-out sequences say so.

        Args:
            draw: gives the sequences of an iteration, always as many of the same length.
            held_out: sequences to judge by; None takes all iterations.
            iterations: at most.
            patience: iterations without progress on the held-out sequences before it stops.
            report: told the iteration.
        """
        self.network.set_weights(self._start)
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        if held_out is None:
            for i in range(1, iterations + 1):
                self._advance(draw())
                report(i)
            return Fit(iterations, ())
        best, weights = 0, self.network.get_weights()
        curve = [(0, self._error(held_out))]
        least = curve[0][1]
        for i in range(1, iterations + 1):
            self._advance(draw())
            report(i)
            if i % _EVERY[i > _EARLY] and i < iterations:
                continue
            curve.append((i, self._error(held_out)))
            if curve[-1][1] < least:
                best, least, weights = i, curve[-1][1], self.network.get_weights()
            elif i - best >= patience:
                break
        self.network.set_weights(weights)
        return Fit(best, tuple(curve))

    def _advance(self, batch: Batch) -> None:
        self._step(*map(tf.constant, (batch.x, batch.y, batch.weight)))

    def _error(self, batch: Batch) -> float:
        total = float(self._errors(*map(tf.constant, (batch.x, batch.y, batch.weight))))
        return float(np.sqrt(total / max(float(batch.weight.sum()), 1.0)))
