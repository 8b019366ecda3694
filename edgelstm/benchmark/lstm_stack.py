"""Which LSTM layers an artifact has, so that a peer of the same sizes can be made."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Manifest

# Of an LSTM stack and the Dense layers and scalings around it, in every recipe.
_KNOWN = {
    "ADD",
    "CONCATENATION",
    "DEQUANTIZE",
    "FULLY_CONNECTED",
    "LOGISTIC",
    "MUL",
    "QUANTIZE",
    "SPLIT",
    "STRIDED_SLICE",
    "SUB",
    "TANH",
}
_GATES, _TANHS = 3, 2  # of one LSTM layer


@dataclass(frozen=True)
class LstmStack:
    """LSTM layers one upon the other, and a Dense layer.

    Attributes:
        channels: values in a reading.
        units: of each LSTM layer.
        targets: outputs of the Dense layer.
    """

    channels: int
    units: tuple[int, ...]
    targets: int

    def __str__(self) -> str:
        lstms = " + ".join(f"LSTM({n})" for n in self.units)
        return f"{lstms} + Dense({self.targets})"


def lstm_stack(manifest: Manifest) -> LstmStack:
    """The LSTM layers of an artifact, told from its states and operations.

    The weights are not looked at: the speed of a peer does not depend on them.

    Raises:
        ConfigurationError: it is something else than a stack of LSTM layers.
    """
    operations = {operation.name: operation.count for operation in manifest.operations}
    refusal = ConfigurationError(
        f"{manifest.name!r} is not a stack of LSTM layers with a Dense layer, the only model that "
        "this peer is made for; leave --against away, or compare another artifact."
    )
    plain = (
        len(manifest.inputs) == len(manifest.outputs) == 1
        and all(channel.tokens is None for channel in manifest.channels)
        and operations.keys() <= _KNOWN
    )
    if not plain:
        raise refusal
    units = _units([pair.input.shape for pair in manifest.states])
    layers = len(units)
    if (
        not layers
        or operations.get("SPLIT", 0) != layers
        or operations.get("LOGISTIC", 0) < _GATES * layers
        or operations.get("TANH", 0) < _TANHS * layers
    ):
        raise refusal
    return LstmStack(len(manifest.channels), units, len(manifest.targets))


def _units(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Units of each layer: a hidden state, then its cell state, which may be in several parts.

    Returns:
        Nothing when the states are not of that form.
    """
    sizes = [shape[-1] for shape in shapes if len(shape) == 2]
    if len(sizes) != len(shapes):
        return ()
    units = []
    while sizes:
        n = sizes.pop(0)
        left = n
        while left > 0:
            if not sizes:
                return ()
            left -= sizes.pop(0)
        if left < 0:
            return ()
        units.append(n)
    return tuple(units)
