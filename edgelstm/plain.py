"""A TFLite model of another tool as an artifact: the manifest that can be told from it.

A signature names the inputs and outputs. A state goes in and comes out under related names, such
as `h` and `next_h`; whatever is left over are readings and results. Nothing is known of units, of
the sample period or of how good the model is, and there are no golden vectors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgelstm.artifact import Artifact, Golden, read_bytes
from edgelstm.errors import ArtifactError
from edgelstm.flatbuffer import (
    EDGE_TPU,
    MARK,
    Model,
    Signature,
    Subgraph,
    Tensor,
    read_flatbuffer,
)
from edgelstm.manifest import (
    SCHEMA_VERSION,
    SIGNATURE,
    Channel,
    Fidelity,
    Manifest,
    Port,
    StatePair,
    TensorSpec,
)

# Operations that remember something between two runs, where nobody can reach it.
_REMEMBERING = frozenset(
    {
        *("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "LSTM", "RNN", "SVDF"),
        *("UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"),
        *("UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"),
    }
)
_LOOKUPS = {"GATHER": 0, "EMBEDDING_LOOKUP": 1}  # which of their inputs is the table
_QUANTIZED = ("int8", "uint8", "int16")
_WHOLE = ("int32", "int64")
_OUT = ("next_{}", "new_{}", "{}_next", "{}_out", "{}:out")
_MOST_MEMORY = 2**30  # bytes, for what a graph computes; a damaged shape asks for more
_NOT_MEASURED = Fidelity(0, math.nan, math.nan, math.nan, None, None)
_CONVERT = "convert the Keras model with 'edgelstm quantize'"


def read_plain(path: str | Path) -> Artifact:
    """Reads a TFLite model that has no manifest.

    Raises:
        ArtifactError: the file cannot be read, is no TFLite model or damaged, or cannot be
            stepped; the message says what is missing.
    """
    return plain_from_bytes(read_bytes(path), path)


def plain_from_bytes(data: bytes, path: str | Path) -> Artifact:
    """What `read_plain` makes of a file's content; `path` names it. Raises what that does."""
    try:
        return as_artifact(read_flatbuffer(data), data, Path(path).stem)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from error


def as_artifact(model: Model, data: bytes, name: str) -> Artifact:
    """A model with a manifest that says what the model itself says.

    Readings and results are taken in the units of the model, and its golden vectors are empty.

    Args:
        model: what `data` holds.
        data: the file.
        name: of the model.

    Raises:
        ArtifactError: it cannot be stepped one reading at a time; the message says why.
    """
    graph = model.subgraphs[0]
    if model.description == MARK:
        raise ArtifactError(
            "This is the model of an edgelstm artifact that has lost its manifest, and would run "
            "unscaled without it: copy it again from where it was made."
        )
    _require_known_operations(model)
    signature = step_signature(model)
    _require_sound(graph, signature)
    pairs = state_names(signature)
    into = {n: _spec(n, graph.tensors[i]) for n, i in signature.inputs.items()}
    out = {n: _spec(n, graph.tensors[i]) for n, i in signature.outputs.items()}
    for state, following in pairs.items():
        _require_same(into[state], out[following])
    _require_apart(signature, pairs)
    readings = [n for n in into if n not in pairs]
    results = [n for n in out if n not in pairs.values()]
    if not readings or not results:
        what = "input" if not readings else "output"
        raise ArtifactError(
            f"The signature {signature.name!r} has no {what} beside its states "
            f"({_list(pairs)}): rename what is no state, so that nothing is called like it."
        )
    inputs = tuple(_input(into[n], graph, signature.inputs[n]) for n in readings)
    outputs = tuple(_output(out[n]) for n in results)
    targets = sum(len(port.channels) for port in outputs)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        flatbuffer_bytes=len(data),
        cpu_sha256=None,
        signature=signature.name,
        mode="stream",
        window=None,
        hop=1,
        recipe=recipe_of(graph),
        inputs=inputs,
        outputs=outputs,
        task="none",
        horizon=0,
        sample_period=1.0,
        warm_up=0,
        states=tuple(StatePair(into[a], out[b]) for a, b in pairs.items()),
        operations=model.operations,
        runtimes={},
        fidelity=_NOT_MEASURED,
        detection=None,
        golden_tolerance=(0.0,) * targets,
        versions={},
        created="",
    )
    channels = sum(len(port.channels) for port in inputs)
    golden = Golden(np.zeros((0, channels), np.float32), np.zeros((0, targets)))
    return Artifact(manifest, data, golden)


def step_signature(model: Model) -> Signature:
    """The signature that is a step: the only one, or the one of that name.

    Raises:
        ArtifactError: there is none, or there are several of other names.
    """
    found = {signature.name: signature for signature in model.signatures}
    if not found:
        raise ArtifactError(
            "The model has no signature, which would say what its inputs and outputs are: save it "
            f"with a signature named {SIGNATURE!r}, or {_CONVERT}."
        )
    if len(found) > 1 and SIGNATURE not in found:
        raise ArtifactError(
            f"The model has the signatures {_list(found)}, and none is named {SIGNATURE!r}: save "
            "it with that name for the one that is a step."
        )
    signature = found.get(SIGNATURE) or next(iter(found.values()))
    if signature.subgraph != 0:
        raise ArtifactError(
            f"The signature {signature.name!r} is of subgraph {signature.subgraph}, and a step "
            "must be the first: save the model with that signature only."
        )
    return signature


def state_names(signature: Signature) -> dict[str, str]:
    """The states of a signature, input -> output, recognised by their names.

    `h` comes out as `next_h`, `new_h`, `h_next`, `h_out` or `h:out`, and `h_in` also as `h_out`.

    Raises:
        ArtifactError: several outputs could be the next value of one state, or the other way round.
    """
    pairs: dict[str, str] = {}
    for name in signature.inputs:
        outputs = [form.format(name) for form in _OUT]
        if stem := name.removesuffix("_in"):
            outputs += [form.format(stem) for form in _OUT] if stem != name else []
        found = [output for output in outputs if output in signature.outputs]
        alike = {name, *found} | {other for other, output in pairs.items() if output in found}
        if len(alike) > 2:
            raise ArtifactError(
                f"The names of the signature {signature.name!r} leave open which state becomes "
                f"which: {_list(alike)} are alike."
            )
        if found:
            pairs[name] = found[0]
    return pairs


def recipe_of(graph: Subgraph) -> str:
    """The recipe that the tensors' types look like, or "unknown"."""
    computed = {graph.tensors[i].dtype for o in graph.operators for i in o.outputs}
    computed |= {graph.tensors[i].dtype for i in graph.inputs} - set(_WHOLE)
    computed -= {*_WHOLE, "bool"}  # shapes, indices, tokens
    weights = {t.dtype for t in graph.tensors if t.constant and t.dtype not in _WHOLE}
    if computed == {"float32"}:
        if weights <= {"float32"}:
            return "float32"
        in_int8 = any(_mixed(graph, o.inputs) for o in graph.operators)
        return "int8-float" if in_int8 else "int8-weight"
    if computed == {"int8"}:
        return "int8"
    return "int16x8" if computed == {"int16"} else "unknown"


def _mixed(graph: Subgraph, inputs: Iterable[int]) -> bool:
    """Whether an operation takes values in float and weights in int8."""
    tensors = [graph.tensors[i] for i in inputs if i >= 0]
    return any(t.constant and t.dtype == "int8" for t in tensors) and any(
        t.dtype == "float32" and not t.constant for t in tensors
    )


def _require_known_operations(model: Model) -> None:
    names = {o.name for graph in model.subgraphs for o in graph.operators if not o.custom}
    remembering = names & _REMEMBERING
    if remembering or any(t.variable for graph in model.subgraphs for t in graph.tensors):
        by = f" ({_list(remembering)})" if remembering else ""
        raise ArtifactError(
            f"The model keeps its states in variables{by}, where they can be neither reset nor "
            f"saved: {_CONVERT}."
        )
    custom = [name for name in model.custom_operations if name != EDGE_TPU]
    if custom:
        raise ArtifactError(
            f"The model uses custom operations ({_list(custom)}), which no runtime has by itself: "
            f"{_CONVERT}."
        )


def _require_sound(graph: Subgraph, signature: Signature) -> None:
    """Refuses what an interpreter would run into memory that nobody wrote, or read past."""
    named_in, named_out = set(signature.inputs.values()), set(signature.outputs.values())
    if named_in != set(graph.inputs) or not named_out <= set(graph.outputs):
        raise ArtifactError(
            f"The signature {signature.name!r} does not name the inputs and outputs of its graph: "
            "it was made by a faulty tool, and would give wrong numbers."
        )
    if any(tensor.storage != "dense" for tensor in graph.tensors):
        raise ArtifactError(
            "The model keeps weights sparse or in another file, which edgelstm does not read: "
            f"{_CONVERT}."
        )
    for tensor in graph.tensors:
        limits = np.iinfo(tensor.dtype) if tensor.dtype in (*_QUANTIZED, *_WHOLE) else None
        if not all(0 < scale < math.inf for scale in tensor.scales) or not all(
            limits is None or limits.min <= z <= limits.max for z in tensor.zero_points
        ):
            raise ArtifactError(
                f"The TFLite model is damaged (the scale of {tensor.name!r} is none): copy it "
                "again from where it was made."
            )
    needed = sum(tensor.nbytes for tensor in graph.tensors if not tensor.constant)
    if needed > _MOST_MEMORY:
        raise ArtifactError(f"The model needs {needed:,} bytes of memory, which is no step.")
    written = named_in | {i for i, tensor in enumerate(graph.tensors) if tensor.constant}
    for operator in graph.operators:
        if not {i for i in operator.inputs if i >= 0} <= written:
            raise ArtifactError(_UNSOUND)
        written |= set(operator.outputs)
    if not named_out <= written:
        raise ArtifactError(_UNSOUND)


_UNSOUND = (
    "The TFLite model is damaged (an operation reads what none before it wrote): copy it again "
    "from where it was made."
)


def _require_same(into: TensorSpec, out: TensorSpec) -> None:
    """Refuses a state that would change on its way from the output to the input."""
    for what in ("dtype", "shape", "scale", "zero_point"):
        one, other = getattr(into, what), getattr(out, what)
        if one != other:
            raise ArtifactError(
                f"The state {into.name!r} goes in with {what.replace('_', ' ')} {one} and comes "
                f"out as {out.name!r} with {other}: make both the same, or the state drifts (or "
                "rename the output, if it is no state)."
            )


def _require_apart(signature: Signature, pairs: dict[str, str]) -> None:
    """Refuses a state that comes out in the input tensor of another: carrying that overwrites it.

    TensorFlow's converter leaves no operation, and no tensor, where a value passes unchanged.
    """
    states = {signature.inputs[state]: state for state in pairs}
    for state, following in pairs.items():
        other = states.get(signature.outputs[following], state)
        if other != state:
            raise ArtifactError(
                f"The output {following!r} is the state {other!r} as it came in, without any "
                "operation between them: keep both in one state, joined by tf.concat."
            )


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    """A tensor of the signature.

    Raises:
        ArtifactError: no session could fill or read it.
    """
    spec = f"{name!r} ({tensor.dtype} {'x'.join(map(str, tensor.shape_signature))})"
    if tensor.per_channel:
        raise ArtifactError(f"The tensor {spec} has a scale per channel, where one is needed.")
    if tensor.dtype not in ("float32", *_QUANTIZED, *_WHOLE):
        raise ArtifactError(
            f"The tensor {spec} is of a type that edgelstm does not step: save the model with "
            "float32 or int8 there."
        )
    scale, zero_point = 0.0, 0
    if tensor.dtype in _QUANTIZED:
        limits = np.iinfo(tensor.dtype)
        scale, zero_point = (*tensor.scales, 0.0)[0], (*tensor.zero_points, 0)[0]
        if not (0 < scale < math.inf and limits.min <= zero_point <= limits.max):
            raise ArtifactError(f"The tensor {spec} does not say what its values stand for.")
    if not tensor.shape or tensor.shape[0] != 1 or -1 in tensor.shape_signature[1:]:
        raise ArtifactError(
            f"The tensor {spec} does not hold one step: a 1 in front, for the batch, and no free "
            f"axis after it, or {_CONVERT}."
        )
    if 0 in tensor.shape:
        raise ArtifactError(f"The tensor {spec} holds nothing.")
    return TensorSpec(name, tensor.dtype, tensor.shape, scale, zero_point)


def _input(spec: TensorSpec, graph: Subgraph, tensor: int) -> Port:
    if any(n > 1 for n in spec.shape[1:-1]):
        raise ArtifactError(
            f"The input {spec.name!r} ({'x'.join(map(str, spec.shape))}) takes several readings at "
            "once, and no state carries on from one reading to the next: "
            f"{_CONVERT}, which makes a step of it or keeps the window."
        )
    tokens = _tokens(spec, graph, tensor) if spec.dtype in _WHOLE else None
    return Port(_channels(spec, tokens), None, "graph", spec)


def _output(spec: TensorSpec) -> Port:
    return Port(_channels(spec, None), None, "graph", spec)


def _tokens(spec: TensorSpec, graph: Subgraph, tensor: int) -> int:
    """How many tokens there are: the rows of the table that they are looked up in."""
    rows = set()
    for operator in graph.operators:
        if tensor in operator.inputs:
            at = _LOOKUPS.get(operator.name)
            table = graph.tensors[operator.inputs[at]] if at is not None else None
            rows.add(table.shape[0] if table and table.constant and table.shape else 0)
    if len(rows) != 1 or not (found := rows.pop()):
        raise ArtifactError(
            f"The input {spec.name!r} takes whole numbers ({spec.dtype}) that are not looked up in "
            "a table, so that nothing says which ones: save the model with a float32 input."
        )
    return found


def _channels(spec: TensorSpec, tokens: int | None) -> tuple[Channel, ...]:
    count = math.prod(spec.shape)
    names = [spec.name] if count == 1 else [f"{spec.name}_{i}" for i in range(count)]
    return tuple(Channel(name, "", 0.0, 1.0, tokens) for name in names)


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
