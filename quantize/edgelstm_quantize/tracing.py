"""Traces a graph of one step (or one window) and converts it to float TFLite."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

from edgelstm.errors import ConversionError
from edgelstm_quantize.flatbuffer import canonical
from edgelstm_quantize.layer_graph import LayerGraph
from edgelstm_quantize.reasons import first_line
from edgelstm_quantize.step_graph import Stepped


class Steps(Protocol):
    """A step graph or a window graph, as a function of tensors."""

    graph: LayerGraph
    state_shapes: Sequence[tuple[int, ...]]

    def __call__(self, inputs: Mapping[str, Any], states: Sequence[Any], /) -> Stepped:
        """Runs it once."""


@dataclass(frozen=True)
class StateTensor:
    """One state: the names of its input and output, and its shape without the batch axis."""

    name: str
    shape: tuple[int, ...]

    @property
    def output_name(self) -> str:
        """The name of the output that carries the state after the step."""
        return f"next_{self.name}"


def states_of(steps: Steps) -> tuple[StateTensor, ...]:
    """The states of a graph, named in order."""
    return tuple(StateTensor(f"state_{i}", shape) for i, shape in enumerate(steps.state_shapes))


def to_tflite(steps: Steps, window: int | None) -> bytes:
    """Traces a graph and converts it.

    Args:
        steps: the graph.
        window: its length; None for a single step.

    Returns:
        A float TFLite model with the signature `step`, in canonical form.

    Raises:
        ConversionError: TensorFlow cannot convert it.
    """
    states = states_of(steps)

    def run(**tensors: Any) -> dict[str, Any]:
        done = steps(tensors, [tensors[s.name] for s in states])
        outputs = {name: tf.identity(y) for name, y in done.outputs.items()}
        return outputs | {
            s.output_name: tf.identity(new) for s, new in zip(states, done.states, strict=True)
        }

    module = tf.Module()
    # Tracking the Keras model itself would save its own (whole-sequence) functions as well.
    module.variables_of_the_model = [w.value for w in steps.graph.model.weights]
    module.step = tf.function(run, autograph=False)
    function = module.step.get_concrete_function(
        **{end.name: input_spec(end.tensor, window, end.name) for end in steps.graph.inputs},
        **{s.name: tf.TensorSpec((1, *s.shape), tf.float32, name=s.name) for s in states},
    )
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"step": function})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["step"])
        try:
            model = bytes(converter.convert())
        except Exception as error:  # the converter raises several unrelated types
            raise ConversionError(_explain(error)) from error
    return canonical(model)


def _explain(error: Exception) -> str:
    """What TFLite cannot compute, and in which layer."""
    text = str(error)
    # fused["Erfinv:", "my_layer/erfinv/Erfinv@__inference_run_754"] ... 'tf.Erfinv' op is neither
    place = re.search(r'"([^"/@]+)/[^"@]*@', text)
    operation = re.search(r"'(tf\.\w+)' op", text) or re.search(r"(tf\.\w+)\(", text)
    if place and operation:
        return (
            f"The layer {place[1]!r} cannot be converted: TFLite has no operation for "
            f"{operation[1]}; compute it in another way, or leave it to the code around the model."
        )
    return f"TensorFlow cannot convert the graph: {first_line(error)}."


def input_spec(tensor: Any, window: int | None, name: str) -> tf.TensorSpec:
    """What an input of the model takes: without a time axis, or with that of a window."""
    time = () if window is None else (window,)
    tokens = len(tensor.shape) == 2
    dtype = tf.int32 if tokens else tf.float32
    return tf.TensorSpec((1, *time, *tensor.shape[2:]), dtype, name=name)
