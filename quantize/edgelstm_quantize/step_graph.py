"""Turns a Keras model over sequences into a step graph: one time step, states in and out.

The step graph has the same layers and the same weights as the model. Only the layers that
cross the time axis are replaced: a recurrent layer by one call of its cell, a causal
convolution by one product with the last inputs. What such a layer remembers from one step to
the next becomes an input and an output of the graph, named `state_<i>` and `next_state_<i>`.
So the graph has no loops and no hidden variables, and whoever runs it owns the states.

A per-channel affine layer at the rim (`Normalization` on the input, with the clip that may
follow it, and `Normalization(invert=True)` on the output) is taken off the graph and handed
over as numbers: an integer input is scaled anyway, and folding both scalings into one saves two
roundings (docs/decisions/0003).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm.errors import ModelError

INPUT = "x"
OUTPUT = "y"

# Layers that treat every time step alike and by itself: they run in the step graph as they are.
_POINTWISE_LAYERS = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.InputLayer,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.SpatialDropout1D,
    keras.layers.Subtract,
)
# Layers that cross the time axis and can do so one step at a time.
_TIME_LAYERS = (keras.layers.RNN, keras.layers.Conv1D)
# Pointwise as well: bare `keras.ops` calls in a functional model.
_POINTWISE_OPERATIONS = frozenset(
    {"Absolute", "Add", "Clip", "Divide", "Multiply", "Negative", "Subtract", "Tanh"}
)


@dataclass(frozen=True)
class Affine:
    """`normalised = (physical - mean) / std`, per channel; both of shape (channels,), float64."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def identity(cls, channels: int) -> Affine:
        """No scaling at all."""
        return cls(np.zeros(channels), np.ones(channels))

    @property
    def is_identity(self) -> bool:
        """Whether it scales nothing."""
        return not self.mean.any() and bool((self.std == 1).all())


@dataclass(frozen=True)
class StateTensor:
    """One state: the names of its input and output, and its shape without the batch axis."""

    name: str
    shape: tuple[int, ...]

    @property
    def output_name(self) -> str:
        """The name of the output that carries the state after the step."""
        return f"next_{self.name}"


@dataclass(frozen=True)
class StepGraph:
    """A traced step graph, ready to be converted.

    Attributes:
        function: concrete function of `x` (1, 1, channels) and every state (1, *shape) to `y`
            (1, 1, targets) and every next state; names as in `states`.
        module: keeps the variables alive while the function is in use.
        states: the states in the order of the layers.
        inputs: scaling that was taken off the input.
        clip: bound on the normalised input (symmetric) that was taken off with it, or None.
        outputs: scaling that was taken off the output.
    """

    function: Any
    module: tf.Module
    states: tuple[StateTensor, ...]
    inputs: Affine
    clip: float | None
    outputs: Affine


@dataclass(frozen=True)
class _Call:
    """One operation of a model at work: which tensors it read and what it gave."""

    operation: Any
    inputs: list[Any]
    output: Any


@dataclass(frozen=True)
class SequenceModel:
    """A model of (1, time, channels) to (1, time, targets), and its operations in order."""

    model: keras.Model
    calls: tuple[_Call, ...]

    def only_reader(self, tensor: Any) -> _Call | None:
        """The call that alone reads the tensor; None when there are several or none."""
        readers = [call for call in self.calls if any(t is tensor for t in call.inputs)]
        return readers[0] if len(readers) == 1 else None


class _TimeLayer(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Stands in for a layer that crosses the time axis; its states are bound before the trace."""

    def __init__(self, original: keras.layers.Layer) -> None:
        super().__init__(name=f"{original.name}_step", dtype=original.dtype_policy)
        self.original = original
        self.states_in: list[Any] = []
        self.states_out: list[Any] = []

    def state_shapes(self) -> list[tuple[int, ...]]:
        raise NotImplementedError

    def advance(self, x: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        raise NotImplementedError

    def call(self, x: Any) -> Any:
        if self.states_in:
            y, self.states_out = self.advance(x, self.states_in)
            return y
        # Keras infers shapes with a symbolic call first; its results are not kept.
        zeros = [keras.ops.zeros((1, *shape), self.compute_dtype) for shape in self.state_shapes()]
        return self.advance(x, zeros)[0]


class _RecurrentStep(_TimeLayer):
    """One call of the cell of an LSTM, a GRU or any other `keras.layers.RNN`."""

    def state_shapes(self) -> list[tuple[int, ...]]:
        sizes = self.original.cell.state_size
        if not isinstance(sizes, (list, tuple)):
            sizes = [sizes]
        return [tuple(int(n) for n in np.atleast_1d(s)) for s in keras.tree.flatten(list(sizes))]

    def advance(self, x: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        sizes = self.original.cell.state_size
        nested = (
            keras.tree.pack_sequence_as(list(sizes), states)
            if isinstance(sizes, (list, tuple))
            else states
        )
        y, new = self.original.cell(x[:, 0], nested, training=False)
        return keras.ops.expand_dims(y, 1), keras.tree.flatten(new)


class _CausalConvolutionStep(_TimeLayer):
    """A causal `Conv1D`: one product with the last `kernel_size` inputs, kept as a state."""

    def state_shapes(self) -> list[tuple[int, ...]]:
        taps, channels, _ = self.original.kernel.shape
        return [(taps - 1, channels)] if taps > 1 else []

    def advance(self, x: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        layer = self.original
        taps, channels, filters = layer.kernel.shape
        window = keras.ops.concatenate([*states, x], axis=1)
        flat = keras.ops.reshape(window, (1, taps * channels))
        y = keras.ops.matmul(flat, keras.ops.reshape(layer.kernel, (taps * channels, filters)))
        if layer.use_bias:
            y = y + layer.bias
        return keras.ops.expand_dims(layer.activation(y), 1), [window[:, 1:]] if states else []


@dataclass
class _Rim:
    """What was found at the input and output of the model and taken off the graph."""

    inputs: Affine
    outputs: Affine
    clip: float | None = None
    removed: set[int] = field(default_factory=set)


def build_step_graph(sequence: SequenceModel) -> StepGraph:
    """Builds the step graph of a model that streams.

    Raises:
        ModelError: a layer needs more than one step at a time.
    """
    _refuse_what_cannot_stream(sequence)
    channels = int(sequence.model.inputs[0].shape[2])
    rim = _find_rim(sequence)

    time_layers: list[_TimeLayer] = []

    def replace(layer: Any) -> Any:
        step: _TimeLayer
        if isinstance(layer, keras.layers.RNN):
            step = _RecurrentStep(layer)
        elif isinstance(layer, keras.layers.Conv1D):
            step = _CausalConvolutionStep(layer)
        else:
            return layer
        time_layers.append(step)
        return step

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if id(layer) in rim.removed:
            return args[0]  # what is at the rim becomes a plain wire
        if not isinstance(layer, _TimeLayer):
            return layer(*args, **kwargs)
        kwargs.pop("training", None)
        if len(args) > 1 or any(value is not None for value in kwargs.values()):
            raise ModelError(
                f"The layer {layer.original.name!r} is given more than its input (an initial state "
                "or a mask); this version starts every state at zero and knows no masks."
            )
        return layer(args[0])

    x = keras.Input(batch_shape=(1, 1, channels), name=INPUT)
    step_model = keras.models.clone_model(
        sequence.model, input_tensors=x, clone_function=replace, call_function=call
    )
    return _trace(step_model, time_layers, channels, rim)


def _trace(
    step_model: keras.Model, time_layers: list[_TimeLayer], channels: int, rim: _Rim
) -> StepGraph:
    owners = [(layer, shape) for layer in time_layers for shape in layer.state_shapes()]
    states = tuple(StateTensor(f"state_{i}", shape) for i, (_, shape) in enumerate(owners))

    def step(x: Any, **named_states: Any) -> dict[str, Any]:
        for layer in time_layers:
            layer.states_in = [
                named_states[state.name]
                for state, (owner, _) in zip(states, owners, strict=True)
                if owner is layer
            ]
        outputs = {OUTPUT: tf.identity(step_model(x, training=False))}
        new = [state for layer in time_layers for state in layer.states_out]
        outputs |= {s.output_name: tf.identity(n) for s, n in zip(states, new, strict=True)}
        for layer in time_layers:  # let go of the graph's tensors
            layer.states_in, layer.states_out = [], []
        return outputs

    module = tf.Module()
    # Tracking the Keras model itself would save its own (whole-sequence) functions as well.
    module.variables_of_the_model = [w.value for w in step_model.weights]
    module.step = tf.function(step, autograph=False)
    function = module.step.get_concrete_function(
        tf.TensorSpec((1, 1, channels), tf.float32, name=INPUT),
        **{s.name: tf.TensorSpec((1, *s.shape), tf.float32, name=s.name) for s in states},
    )
    return StepGraph(function, module, states, rim.inputs, rim.clip, rim.outputs)


def as_sequence_model(model: keras.Model) -> SequenceModel:
    """The same layers as a functional model that takes one sequence of any length.

    Args:
        model: a built `Sequential` or functional model with one input (batch, time, channels) and
            one output (batch, time, targets).

    Raises:
        ModelError: the model is of another form.
    """
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on {keras.backend.backend()} here, and only TensorFlow converts to "
            "TFLite; save the model and convert the file, or set KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, keras.Model):
        raise ModelError(f"This is a {type(model).__name__}, not a Keras model.")
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise ModelError(
            f"The model {model.name!r} is a subclass of keras.Model, whose layers cannot be seen; "
            "build it with the functional API (keras.Model(inputs, outputs)) instead."
        )
    try:
        inputs, outputs = model.inputs, model.outputs
    except (AttributeError, ValueError):
        inputs = outputs = None
    if not inputs or not outputs:
        raise ModelError(
            f"The model {model.name!r} has no input shape yet: give it a keras.Input first."
        )
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"The model {model.name!r} has {len(inputs)} inputs and {len(outputs)} outputs; "
            "this version converts models with one of each."
        )
    shape, output_shape = inputs[0].shape, outputs[0].shape
    if len(shape) != 3 or shape[2] is None:
        raise ModelError(
            f"The model's input has the shape {tuple(shape)}; a recurrent model takes "
            "(batch, time, channels) with a fixed number of channels."
        )
    if len(output_shape) != 3:
        raise ModelError(
            f"The model's output has the shape {tuple(output_shape)}: one answer for a whole "
            "sequence. Give its last recurrent layer return_sequences=True, so that it answers "
            "every step."
        )
    calls: list[_Call] = []

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        output = operation(*args, **kwargs)
        calls.append(_Call(operation, keras.tree.flatten(args), output))
        return output

    whole = keras.models.clone_model(
        keras.Model(inputs[0], outputs[0], name=model.name),
        input_tensors=keras.Input(batch_shape=(1, None, int(shape[2])), name=INPUT),
        clone_function=_of_any_length,
        call_function=call,
    )
    return SequenceModel(whole, tuple(calls))


def _of_any_length(layer: Any) -> Any:
    """The layer itself, or for a recurrent layer tied to a length or a batch the same cell free."""
    if isinstance(layer, keras.layers.RNN) and (layer.unroll or layer.stateful):
        return keras.layers.RNN(
            layer.cell,
            return_sequences=layer.return_sequences,
            return_state=layer.return_state,
            go_backwards=layer.go_backwards,
            name=layer.name,
        )
    return layer


def _refuse_what_cannot_stream(sequence: SequenceModel) -> None:
    model = sequence.model
    if not any(isinstance(layer, keras.layers.RNN) for layer in model.layers):
        raise ModelError(
            f"The model {model.name!r} has no recurrent layer (LSTM, GRU, SimpleRNN, RNN) at its "
            "top level; edgelstm converts recurrent models."
        )
    # Layers first: some bring bare operations along (Masking does), which say less.
    for operation in sorted(model.operations, key=lambda o: not isinstance(o, keras.layers.Layer)):
        reason = _why_not(operation)
        if reason:
            kind = type(operation).__name__
            raise ModelError(f"The layer {operation.name!r} ({kind}) cannot stream: {reason}.")
    called = [id(call.operation) for call in sequence.calls]
    for layer in model.layers:
        if isinstance(layer, _TIME_LAYERS) and called.count(id(layer)) > 1:
            raise ModelError(
                f"The layer {layer.name!r} is used {called.count(id(layer))} times, and each use "
                "would need states of its own; give each use a layer of its own."
            )


def _why_not(layer: Any) -> str | None:
    """Why a layer cannot run one step at a time; None when it can."""
    if getattr(layer, "compute_dtype", "float32") != "float32":
        return f"it computes in {layer.compute_dtype}; build the model with the float32 policy"
    if isinstance(layer, keras.layers.RNN):
        if layer.go_backwards:
            return "it reads the sequence backwards, which needs the whole window first"
        if layer.return_state:
            return "it returns its states as outputs; remove return_state=True"
        if not layer.return_sequences:
            return "it answers once for a whole sequence; give it return_sequences=True"
    elif isinstance(layer, keras.layers.Conv1D):
        if layer.padding != "causal":
            return "it looks into the future; use padding='causal'"
        if layer.strides != (1,) or layer.dilation_rate != (1,) or layer.groups != 1:
            return "this version takes causal convolutions without strides, dilation or groups"
    elif isinstance(layer, keras.layers.Layer):
        if not isinstance(layer, _POINTWISE_LAYERS):
            return "this version knows no way to run it one step at a time"
        if set(keras.tree.flatten(getattr(layer, "axis", -1))) - {-1, 2}:
            return "it works along the time axis; give it the channels (axis=-1)"
    elif type(layer).__name__ not in _POINTWISE_OPERATIONS:
        return "this version does not know this operation"
    return None


def _find_rim(sequence: SequenceModel) -> _Rim:
    """Finds the scaling at the input (and its clip) and at the output."""
    x, y = sequence.model.inputs[0], sequence.model.outputs[0]
    rim = _Rim(Affine.identity(int(x.shape[-1])), Affine.identity(int(y.shape[-1])))

    call = sequence.only_reader(x)
    if call and isinstance(call.operation, keras.layers.Normalization):
        if call.operation.invert:
            return rim
        rim.inputs = _affine(call.operation, int(x.shape[-1]))
        rim.removed.add(id(call.operation))
        call = sequence.only_reader(call.output)
    if call and type(call.operation).__name__ == "Clip":
        low, high = call.operation.x_min, call.operation.x_max
        if low == -high:
            rim.clip = float(high)
            rim.removed.add(id(call.operation))

    last = next(call.operation for call in sequence.calls if call.output is y)
    if isinstance(last, keras.layers.Normalization) and last.invert:
        rim.outputs = _affine(last, int(y.shape[-1]))
        rim.removed.add(id(last))
    return rim


def _affine(layer: keras.layers.Normalization, channels: int) -> Affine:
    mean = np.broadcast_to(np.asarray(layer.mean, np.float64).reshape(-1), (channels,))
    variance = np.broadcast_to(np.asarray(layer.variance, np.float64).reshape(-1), (channels,))
    # Keras divides by max(sqrt(variance), epsilon).
    return Affine(mean.copy(), np.maximum(np.sqrt(variance), keras.backend.epsilon()))
