"""The Keras models that `train` makes.

A network sees features (`encoding`) and is what the training loop fits. A model takes and gives
physical units: the same layers between a normalisation and its inverse, with the frozen linear
part beside them where there is one. All of its layers are ones that the converter streams or, for
the autoencoder, unrolls over its window.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError, ModelError
from edgelstm_quantize.encoding import CLIP, Encoding
from edgelstm_quantize.ridge import TAPS

KINDS = ("hybrid", "lstm", "gru", "ridge", "autoencoder")
WINDOW = 32
_RECURRENT_CLIP = 4.0


@dataclass(frozen=True)
class Architecture:
    """What a network is made of.

    Attributes:
        kind: one of `KINDS`.
        units: of each recurrent layer.
        layers: recurrent layers on top of one another (an autoencoder has as many once more).
        dropout: share of the outputs of the recurrent layers left out at each step of a training.
        window: readings that an autoencoder reconstructs; None for a forecaster.
    """

    kind: str = "hybrid"
    units: int = 32
    layers: int = 1
    dropout: float = 0.0
    window: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(
                f"No model is called {self.kind!r}; try {', '.join(KINDS[:-1])} or {KINDS[-1]}."
            )
        if self.units < 1 or self.layers < 1 or not 0 <= self.dropout < 1:
            raise ConfigurationError(
                f"A model of {self.layers} layers of {self.units} units with dropout "
                f"{self.dropout:g} cannot be built; give at least one of each, and a dropout from "
                "0 up to 1."
            )
        if (self.window is not None) != (self.kind == "autoencoder"):
            raise ConfigurationError(
                "A window goes with the autoencoder, and only with it; leave it out for a "
                f"{self.kind} model."
            )
        if self.window is not None and self.window < 2:
            raise ConfigurationError(
                f"A window of {self.window} readings is none; give at least 2."
            )

    @property
    def linear(self) -> bool:
        """Whether a frozen linear part stands beside the network."""
        return self.kind in ("hybrid", "ridge")

    @property
    def clip(self) -> float:
        """Where the normalised readings are clipped.

        The ranges of int8 go as far as the clip does. A cell state that is all there is would be
        coarse with a wide one, where that of a hybrid is but a correction.
        """
        return _RECURRENT_CLIP if self.kind in ("lstm", "gru") else CLIP

    def __str__(self) -> str:
        if self.kind == "ridge":
            return "a ridge, without recurrent layers"
        name = "GRU" if self.kind == "gru" else "LSTM"
        over = f" over windows of {self.window} readings" if self.window else ""
        return (
            f"a model of kind {self.kind}{over} with {self.layers} {name} "
            f"layer{'s' * (self.layers > 1)} of {self.units} units"
        )


def build_network(architecture: Architecture, features: int, outputs: int) -> keras.Model | None:
    """The part of a model that is trained, from features to outputs; None for a ridge.

    The dense layer of a hybrid starts near zero, so that its training starts at the ridge.
    """
    if architecture.kind == "ridge":
        return None
    x = keras.Input((architecture.window, features), name="features")
    return keras.Model(x, _network(architecture, x, outputs), name="network")


def build_model(
    architecture: Architecture,
    encoding: Encoding,
    targets: list[int],
    *,
    network: keras.Model | None = None,
    kernel: NDArray[np.float64] | None = None,
) -> keras.Model:
    """The whole model, on physical units.

    Args:
        architecture: of the network.
        encoding: of the channels.
        targets: the columns that the model gives.
        network: whose weights it gets.
        kernel: of the linear part, where it has one.
    """
    x = keras.Input((architecture.window, len(encoding.codes)), name="readings")
    z = keras.layers.Normalization(**_scaling(encoding), name="normalise")(x)
    z = keras.ops.clip(z, -encoding.clip, encoding.clip)
    features = _features(z, encoding)
    parts = []
    if kernel is not None:
        conv = keras.layers.Conv1D(
            len(targets), TAPS, padding="causal", use_bias=False, trainable=False, name="linear"
        )
        parts.append(conv(features))
    if network is not None:
        parts.append(_network(architecture, features, len(targets)))
    y = keras.layers.Add(name="sum")(parts) if len(parts) > 1 else parts[0]
    name = "forecast" if architecture.window is None else "reconstructed"
    y = keras.layers.Normalization(**_scaling(encoding, targets), invert=True, name=name)(y)
    model = keras.Model(x, y, name="autoencoder" if architecture.window else "forecaster")
    if kernel is not None:
        model.get_layer("linear").set_weights([kernel])
    if network is not None:
        for layer in network.layers:
            if layer.weights:
                model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


def start_weights(
    network: keras.Model, architecture: Architecture, source: keras.Model, where: str
) -> list[NDArray[np.float32]]:
    """The network's weights with those of an earlier model in their place where shapes fit.

    Args:
        network: a fresh one.
        architecture: of it.
        source: a model that `train` made.
        where: what messages call it.

    Raises:
        ModelError: the source is of another kind or size.
    """
    found = _architecture_of(source)
    if found is None:
        raise ModelError(
            f"{where} is no model that edgelstm trained, so a training cannot start from it; leave "
            "out the warm start."
        )
    if found != replace(architecture, dropout=0.0):
        raise ModelError(
            f"{where} is {found}, and this training is to make {architecture}; ask for the same, "
            "or leave out the warm start."
        )
    weights = []
    for layer in network.layers:
        if layer.weights:
            for own, other in zip(
                layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True
            ):
                weights.append(other if own.shape == other.shape else own)
    return weights


def _architecture_of(model: keras.Model) -> Architecture | None:
    """What a model is made of, told by the names of its layers; None for one of another make."""
    named = {layer.name: layer for layer in model.layers}
    if "normalise" not in named:
        return None
    recurrent = [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]
    if not recurrent:
        return Architecture("ridge") if "linear" in named else None
    units = int(recurrent[0].cell.units)
    if "reconstruction" in named:
        window = int(model.inputs[0].shape[1])
        return Architecture("autoencoder", units, len(recurrent) // 2, window=window)
    if "correction" in named:
        return Architecture("hybrid", units, len(recurrent))
    if "head" in named:
        kind = "gru" if isinstance(recurrent[0], keras.layers.GRU) else "lstm"
        return Architecture(kind, units, len(recurrent))
    return None


def _network(architecture: Architecture, x: Any, outputs: int) -> Any:
    layer = keras.layers.GRU if architecture.kind == "gru" else keras.layers.LSTM
    if architecture.window is not None:
        h = _recurrent(layer, architecture, x, "encoder", last=False)
        h = keras.layers.RepeatVector(architecture.window, name="repeat")(h)
        h = _recurrent(layer, architecture, h, "decoder")
        return keras.layers.Dense(outputs, name="reconstruction")(h)
    h = _recurrent(layer, architecture, x, "gru" if architecture.kind == "gru" else "lstm")
    if architecture.kind == "hybrid":
        near_zero = keras.initializers.RandomNormal(stddev=1e-3)
        return keras.layers.Dense(outputs, kernel_initializer=near_zero, name="correction")(h)
    return keras.layers.Dense(outputs, name="head")(h)


def _recurrent(
    layer: Any, architecture: Architecture, x: Any, name: str, *, last: bool = True
) -> Any:
    """Recurrent layers on top of one another; `last` tells whether the last gives every step."""
    for i in range(architecture.layers):
        every_step = last or i < architecture.layers - 1
        number = f"_{i + 1}" if i else ""
        # XLA, which the training step is compiled with, knows nothing of cuDNN's layers.
        x = layer(
            architecture.units,
            return_sequences=every_step,
            use_cudnn=False,
            name=f"{name}{number}",
        )(x)
        if architecture.dropout:
            x = keras.layers.Dropout(architecture.dropout, name=f"{name}_dropout{number}")(x)
    return x


def _features(z: Any, encoding: Encoding) -> Any:
    """The features of normalised readings, see `encoding`."""
    if all(codes is None for codes in encoding.codes):
        return z
    parts = [z[:, :, a:b] for a, b in _runs(encoding.numbers)]
    for k, codes in enumerate(encoding.codes):
        if codes is not None:
            at = (np.array(codes) - encoding.mean[k]) / encoding.std[k]
            parts.append(_one_hot(z[:, :, k : k + 1], at, f"category_{k}"))
    return keras.layers.Concatenate(name="features")(parts) if len(parts) > 1 else parts[0]


def _one_hot(z: Any, at: NDArray[np.float64], name: str) -> Any:
    """A one-hot of the categories that lie at some places, (..., categories), of dense layers.

    With u the distance from a place in units of the least distance between two places, it is
    relu(1 - relu(2 u - 1/2)): 1 up to a quarter and 0 from three quarters on, so that rounding to
    int8 changes nothing.
    """
    n = len(at)
    apart = float(np.diff(at).min()) if n > 1 else 1.0
    eye = np.eye(n)
    for i, (kernel, bias) in enumerate(
        [
            (np.repeat([[1.0, -1.0]], n, axis=0).T.reshape(1, -1), np.concatenate([-at, at])),
            (np.concatenate([eye, eye]) * 2 / apart, np.full(n, -0.5)),
            (-eye, np.ones(n)),
        ]
    ):
        z = keras.layers.Dense(
            kernel.shape[1],
            activation="relu",
            kernel_initializer=keras.initializers.Constant(kernel.tolist()),
            bias_initializer=keras.initializers.Constant(bias.tolist()),
            trainable=False,
            name=f"{name}_{'abc'[i]}",
        )(z)
    return z


def _runs(columns: list[int]) -> list[tuple[int, int]]:
    """Columns as runs [a, b) of neighbours."""
    runs = []
    for _, group in itertools.groupby(enumerate(columns), lambda pair: pair[1] - pair[0]):
        run = [column for _, column in group]
        runs.append((run[0], run[-1] + 1))
    return runs


def _scaling(encoding: Encoding, columns: list[int] | None = None) -> dict[str, Any]:
    chosen = slice(None) if columns is None else columns
    mean, std = encoding.mean[chosen], encoding.std[chosen]
    return {"axis": -1, "mean": mean.tolist(), "variance": (std**2).tolist()}
