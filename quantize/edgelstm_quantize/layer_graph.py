"""A Keras model as a list of calls: which layer reads which tensors, and what it gives.

Nested models are opened up, so that every layer is seen. The batch axis is left open, and so is
the time axis of a model that streams; a layer that is tied to a length or a batch (`unroll`,
`stateful`) is set free first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

from edgelstm.errors import ModelError

# What Keras calls layers and tensors that were given no name: it counts up within a process, so
# such names say nothing and would make two conversions of one model differ.
_RESERVED = re.compile(r"(next_)?state_\d+|due")
_UNNAMED = re.compile(r"(input_layer|keras_tensor)(_\d+)?")


@dataclass(frozen=True)
class Call:
    """One operation at work: what it read (tensors, nested as it takes them) and what it gave."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def inputs(self) -> list[Any]:
        """The tensors it read, flat."""
        return [t for t in keras.tree.flatten([self.args, self.kwargs]) if is_tensor(t)]

    @property
    def outputs(self) -> list[Any]:
        """The tensors it gave, flat."""
        return list(keras.tree.flatten(self.output))


@dataclass(frozen=True)
class End:
    """An input or an output of the model: its name in the artifact, and its tensor."""

    name: str
    tensor: Any


@dataclass(frozen=True)
class LayerGraph:
    """A model laid open.

    Attributes:
        model: the same layers as a functional model of lists: one sequence (batch, time, ...) per
            input, one tensor per output.
        inputs: in the model's order.
        outputs: in the model's order.
        calls: in an order in which they can be done.
    """

    model: keras.Model
    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    calls: tuple[Call, ...]

    @cached_property
    def labels(self) -> dict[int, str]:
        """The name of each call's operation, by the `id` of the call.

        What Keras named itself is numbered as in a model made first of all, so that a model built
        twice gives the same file.
        """
        taken = {_given_name(call.operation) for call in self.calls}
        labels: dict[int, str] = {}
        made: dict[int, str] = {}
        for call in self.calls:
            operation = call.operation
            if id(operation) not in made:
                name = _given_name(operation) or re.sub(r"_\d+$", "", operation.name)
                if not _given_name(operation):
                    numbered = (f"{name}_{i}" if i else name for i in itertools.count())
                    name = next(label for label in numbered if label not in taken)
                taken.add(name)
                made[id(operation)] = name
            labels[id(call)] = made[id(operation)]
        return labels

    def readers(self, tensor: Any) -> list[Call]:
        """The calls that read the tensor."""
        return [call for call in self.calls if any(t is tensor for t in call.inputs)]

    def only_reader(self, tensor: Any) -> Call | None:
        """The call that alone reads the tensor; None when there are several or none."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 else None


def scope_of(name: str) -> str:
    """A name as TensorFlow lets a scope, an input or an output be called."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return name if name[0].isalnum() else f"layer{name}"


def is_tensor(value: Any) -> bool:
    """Whether a value stands for a tensor of a model."""
    return isinstance(value, keras.KerasTensor)


def check_form(model: Any) -> None:
    """Refuses what is not a built Keras model whose layers can be seen.

    Raises:
        ModelError: with the way out.
    """
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on {keras.backend.backend()} here, and only TensorFlow converts to "
            "TFLite; save the model and convert the file, or set KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, keras.Model):
        raise ModelError(f"This is a {type(model).__name__}, not a Keras model.")
    if not is_nested_model(model):
        raise ModelError(
            f"The model {model.name!r} is a subclass of keras.Model, whose layers cannot be seen; "
            "build it with the functional API (keras.Model(inputs, outputs)) instead."
        )
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        inputs = None
    if not inputs:
        raise ModelError(
            f"The model {model.name!r} has no input shape yet: give it a keras.Input first."
        )


def all_operations(model: keras.Model) -> Iterator[Any]:
    """Every operation of a model and of the models nested in it; layers first, then bare ones.

    Some layers bring bare operations along (Masking does), which say less than the layer.
    """
    # A sequential model does not list its operations; as a functional one it does.
    operations = keras.Model(model.inputs, model.outputs).operations
    for operation in sorted(operations, key=lambda o: not isinstance(o, keras.layers.Layer)):
        if is_nested_model(operation):
            yield from all_operations(operation)
        else:
            yield operation


def is_nested_model(operation: Any) -> bool:
    """Whether an operation is a functional or sequential model used as a layer."""
    return isinstance(operation, keras.Model) and (
        isinstance(operation, keras.Sequential) or hasattr(operation, "operations")
    )


def open_up(
    model: keras.Model,
    length: int | None,
    replace: Callable[[Any], Any] = lambda layer: layer,
) -> LayerGraph:
    """Lays a model open.

    Args:
        model: one that `check_form` lets pass.
        length: of the time axis; None leaves it open.
        replace: gives the layer to use in place of each.

    Raises:
        ModelError: its inputs are no sequences.
    """
    calls: list[Call] = []
    freed: dict[int, Any] = {}  # a layer that is used twice stays one layer

    def free(layer: Any) -> Any:
        if id(layer) not in freed:
            freed[id(layer)] = replace(_of_any_length(layer))
        return freed[id(layer)]

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if is_nested_model(operation):
            # Not `clone_model`: it may give copies of the tensors that the calls gave.
            outputs = keras.Model(operation.inputs, operation.outputs)._run_through_graph(
                keras.tree.flatten(args[0]), operation_fn=free, call_fn=call
            )
            if isinstance(operation, keras.Sequential):
                return outputs[0]
            return keras.tree.pack_sequence_as(operation.output, outputs)
        operation = _fit_rank(operation, args)
        output = operation(*args, **kwargs)
        calls.append(Call(operation, args, kwargs, output))
        return output

    for tensor in model.inputs:
        _check_input(tensor)
    inputs = [_input_like(tensor, length) for tensor in model.inputs]
    whole = keras.models.clone_model(
        keras.Model(model.inputs, model.outputs, name=model.name),
        input_tensors=inputs,
        clone_function=free,
        call_function=call,
    )
    _check_tokens(whole, calls)
    input_names = _names([_name_of_input(t) for t in model.inputs], "x")
    output_names = _names(_names_of_outputs(model, calls, whole.outputs), "y")
    if set(input_names) & set(output_names):  # a runtime has one set of names for both
        output_names = [f"{name}_out" for name in output_names]
    return LayerGraph(
        whole,
        tuple(map(End, input_names, whole.inputs)),
        tuple(map(End, output_names, whole.outputs)),
        tuple(calls),
    )


def _check_input(tensor: Any) -> None:
    if len(tensor.shape) == 2 or (len(tensor.shape) == 3 and tensor.shape[2] is not None):
        return
    raise ModelError(
        f"The model's input {tensor.name!r} has the shape {tuple(tensor.shape)}; a recurrent model "
        "takes (batch, time, channels) with a fixed number of channels, or tokens (batch, time)."
    )


def _check_tokens(model: keras.Model, calls: Sequence[Call]) -> None:
    for tensor in model.inputs:
        if len(tensor.shape) > 2:
            continue
        for call in calls:
            if any(t is tensor for t in call.inputs) and not isinstance(
                call.operation, keras.layers.Embedding
            ):
                raise ModelError(
                    f"The model's input {tensor.name!r} has no axis of channels, as tokens have "
                    f"none, but the layer {call.operation.name!r} that reads it is no Embedding; "
                    "a recurrent model takes (batch, time, channels)."
                )


def _input_like(tensor: Any, length: int | None) -> Any:
    name = _name_of_input(tensor)
    return keras.Input(
        batch_shape=(None, length, *tensor.shape[2:]), dtype=tensor.dtype, name=name or None
    )


def _of_any_length(layer: Any) -> Any:
    """The layer itself, or for a recurrent layer tied to a length or a batch the same cell free."""
    if isinstance(layer, keras.layers.Bidirectional):
        both = (layer.forward_layer, layer.backward_layer)
        if not any(rnn.stateful or rnn.unroll for rnn in both):
            return layer
        forward, backward = map(_of_any_length, both)
        free = keras.layers.Bidirectional(
            forward, merge_mode=layer.merge_mode, backward_layer=backward, name=layer.name
        )
        free.forward_layer = forward  # it has made one of its own, with new weights
        return free
    if type(layer) is keras.layers.TimeDistributed:
        return _EachStep(layer.layer, name=layer.name)
    if isinstance(layer, keras.layers.RNN) and (layer.unroll or layer.stateful):
        return with_options(layer)
    return layer


def with_options(layer: Any, **options: Any) -> Any:
    """A recurrent layer with the same cell, free of length and batch, with other options."""
    as_it_is = {
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "go_backwards": layer.go_backwards,
    }
    return keras.layers.RNN(layer.cell, **as_it_is | options, name=layer.name)


def _fit_rank(operation: Any, args: tuple[Any, ...]) -> Any:
    """Spreads a layer over time that was built for the last answer of a sequence only.

    Such a layer (BatchNormalization, PReLU) insists on two axes.
    """
    specs = getattr(operation, "input_spec", None)
    spec = specs[0] if isinstance(specs, (list, tuple)) and len(specs) == 1 else specs
    ndim = getattr(spec, "ndim", None)
    if isinstance(operation, keras.layers.Layer) and ndim == 2 and len(args[0].shape) == 3:
        return _EachStep(operation, name=operation.name)
    return operation


class _EachStep(keras.layers.TimeDistributed):  # type: ignore[misc]  # keras has no types
    """Applies a layer to each step; its base gives one step where the length is left open."""

    def call(self, x: Any, training: bool = False, mask: Any = None) -> Any:  # noqa: ARG002  # as in the base
        ops = keras.ops
        y = self.layer(ops.reshape(x, (-1, *x.shape[2:])), training=False)
        return ops.reshape(y, (-1, ops.shape(x)[1], *y.shape[1:]))


def _name_of_input(tensor: Any) -> str:
    return "" if _UNNAMED.fullmatch(tensor.name) else scope_of(tensor.name)


def _names_of_outputs(
    model: keras.Model, calls: Sequence[Call], outputs: Sequence[Any]
) -> list[str]:
    structure = None if isinstance(model, keras.Sequential) else model.output
    if isinstance(structure, dict):
        return [scope_of(name) for name in keras.tree.flatten({n: n for n in structure})]
    makers = {id(tensor): call.operation for call in calls for tensor in call.outputs}
    return [_given_name(makers[id(t)]) if id(t) in makers else "" for t in outputs]


def _given_name(operation: Any) -> str:
    """The name that the user gave an operation; "" for one that Keras made from its class."""
    own = re.sub(r"_\d+$", "", operation.name).replace("_", "")
    return "" if own == type(operation).__name__.lower() else scope_of(operation.name)


def _names(given: Sequence[str], letter: str) -> list[str]:
    """Names for the artifact: the given ones, or `x` (`x_0`, `x_1`, ...) where there are none.

    A name that the artifact has for something of its own counts as none.
    """
    usable = (
        all(given) and len(set(given)) == len(given) and not any(map(_RESERVED.fullmatch, given))
    )
    if usable:
        return list(given)
    return [letter] if len(given) == 1 else [f"{letter}_{i}" for i in range(len(given))]
