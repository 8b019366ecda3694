"""`edgelstm inspect`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgelstm.artifact import SIGNATURE, Artifact, read_bytes
from edgelstm.calibration_file import CalibrationFile, apply, calibration_path
from edgelstm.commands.console import format_budget, format_runtimes
from edgelstm.errors import ArtifactError, MissingDependencyError, SignatureError
from edgelstm.flatbuffer import EDGE_TPU, Model, Subgraph, Tensor, read_flatbuffer
from edgelstm.manifest import Channel, Detection, Fidelity, Manifest, Operation, TensorSpec
from edgelstm.model_file import is_plain
from edgelstm.plain import as_artifact, recipe_of, state_names, step_signature
from edgelstm.signing import check_signature, signed_by
from edgelstm.sinks.log import format_duration

_SHOWN = 16  # targets; a window may have hundreds


@click.command(short_help="Show what an artifact, or any .tflite file, says about itself.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--json", "as_json", is_flag=True, help="Print it as JSON: of an artifact, the manifest."
)
def inspect(file: Path, as_json: bool) -> None:
    """Show what an artifact says about itself, after checking that it is undamaged.

    Of a TFLite file that another tool made it shows the inputs, outputs and operations, and
    whether edgelstm can step it.

    Example: edgelstm inspect pump.tflite
    """
    data = read_bytes(file)
    if is_plain(data):
        try:
            model = read_flatbuffer(data)
        except ArtifactError as error:
            raise ArtifactError(f"{file}: {error}") from error
        if as_json:
            click.echo(json.dumps(_plain_data(model, data, file), indent=2, sort_keys=True))
            return
        lines = _plain_page(model, data, file)
    else:
        content = Artifact.from_bytes(data, file)
        if as_json:
            click.echo(content.manifest.to_json(), nl=False)
            return
        lines = [*_page(content, file, len(data)), *_signed(data, file)]
    for label, value in lines:
        click.echo(f"{label:<11}{_printable(value)}")


def _printable(text: str) -> str:
    """A text without anything that a terminal would obey: names come from the file."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


def _page(content: Artifact, file: Path, size: int) -> list[tuple[str, str]]:
    manifest = content.manifest
    detection = manifest.detection
    return [
        ("file", f"{file.name}, {size:,} bytes (model {manifest.flatbuffer_bytes:,}), undamaged"),
        ("name", manifest.name),
        ("made", f"{manifest.created} by edgelstm {manifest.versions.get('edgelstm', '?')}"),
        ("mode", _mode(manifest)),
        ("recipe", manifest.recipe),
        *(
            [("compiled", f"for an Edge TPU; carries the model for the CPU, {len(cpu):,} bytes")]
            if (cpu := content.cpu)
            else []
        ),
        ("runtimes", format_runtimes(manifest)),
        ("period", format_duration(manifest.sample_period)),
        *(("channel", _channel(c)) for c in manifest.channels),
        *(("target", f"{_channel(t)}{_horizon(manifest)}") for t in manifest.targets[:_SHOWN]),
        *([("target", _more(len(manifest.targets)))] if len(manifest.targets) > _SHOWN else []),
        *(("input", _tensor(port.tensor)) for port in manifest.inputs),
        *(("output", _tensor(port.tensor)) for port in manifest.outputs),
        *(("state", f"{_tensor(s.input)} -> {s.output.name}") for s in manifest.states),
        ("memory", _memory(manifest, read_flatbuffer(content.flatbuffer).weights_bytes)),
        ("operations", _operations(manifest.operations)),
        ("fidelity", _fidelity(manifest.fidelity)),
        ("threshold", _threshold(detection) if detection else "none"),
        *(("limits", line) for line in _limits(manifest)),
        *([("beside", _beside(content, file))] if calibration_path(file).exists() else []),
        (
            "golden",
            f"{len(content.golden.x)} readings, tolerance "
            f"{max(manifest.golden_tolerance):.3g} at most",
        ),
        ("sha256", manifest.sha256),
    ]


def _signed(data: bytes, file: Path) -> Iterator[tuple[str, str]]:
    """Who signed the file, if anybody did."""
    if SIGNATURE.encode() not in data:
        return
    key = signed_by(data)
    try:
        check_signature(data, file)
    except MissingDependencyError as error:
        yield "signed", f"with the key {key}, it says; not checked. {error}"
    except SignatureError as error:
        yield "signed", f"NO: {error}"
    else:
        yield "signed", f"with the key {key}; whether that is yours: edgelstm verify --public-key"


def _mode(manifest: Manifest) -> str:
    if manifest.mode == "stream":
        return "stream, one step per reading"
    every = "at every reading" if manifest.hop == 1 else f"every {manifest.hop} readings"
    return f"window of {manifest.window} readings, run {every}"


def _more(targets: int) -> str:
    return f"... and {targets - _SHOWN} more"


def _channel(channel: Channel) -> str:
    unit = f" {channel.unit}" if channel.unit else ""
    if channel.tokens is not None:
        return f"{channel.name}: {channel.tokens} tokens"
    if channel.categories is not None:
        return f"{channel.name}: one of {', '.join(channel.categories)}"
    return f"{channel.name}: mean {channel.mean:.4g}{unit}, std {channel.std:.4g}{unit}"


def _horizon(manifest: Manifest) -> str:
    if manifest.task == "reconstruction":
        return ", of the window that went in"
    steps = "step" if manifest.horizon == 1 else "steps"
    return f", {manifest.horizon} {steps} ahead" if manifest.horizon else ""


def _threshold(detection: Detection) -> str:
    kind = "" if detection.threshold == "adaptive-tail" else f" ({detection.threshold})"
    scorer = "" if detection.scorer == "ewma" else f" of {detection.scorer} scores"
    return (
        f"{format_budget(detection.false_alarms_per_day)}{kind}, set on {detection.readings:,} "
        f"{detection.residuals} residuals{scorer}"
    )


def _limits(manifest: Manifest) -> Iterator[str]:
    """What a working sensor gives, of each channel of which anything is known."""
    if manifest.detection is None:
        return
    for channel, limits in zip(manifest.channels, manifest.detection.limits, strict=True):
        unit = f" {channel.unit}" if channel.unit else ""
        parts = [
            *([f"at least {limits.low:g}{unit}"] if limits.low is not None else []),
            *([f"at most {limits.high:g}{unit}"] if limits.high is not None else []),
            *([f"not the same {limits.flat:,} times in a row"] if limits.flat else []),
        ]
        if parts:
            yield f"{channel.name}: {', '.join(parts)}"


def _beside(content: Artifact, file: Path) -> str:
    """What lies beside the artifact and is taken in place of its own calibration."""
    path = calibration_path(file)
    try:
        calibration = CalibrationFile.read(path)
        apply(calibration, content, path)
    except ArtifactError as error:
        return f"cannot be used: {error}"
    return (
        f"{path.name} is taken in its place: {_threshold(calibration.detection)}, from "
        f"{calibration.source}, made {calibration.created}"
    )


def _tensor(spec: TensorSpec) -> str:
    shape = " x ".join(map(str, spec.shape))
    scaling = f", scale {spec.scale:.4g}, zero point {spec.zero_point}" if spec.scale else ""
    return f"{spec.name} {spec.dtype} ({shape}){scaling}"


def _memory(manifest: Manifest, weights: int) -> str:
    """What the weights take, and what each stream of readings takes besides."""
    if manifest.window:
        kept = sum(_bytes(port.tensor) for port in manifest.inputs)
        return f"weights {weights:,} bytes, window {kept:,} bytes per stream"
    kept = sum(_bytes(pair.input) for pair in manifest.states)
    return f"weights {weights:,} bytes, states {kept:,} bytes per stream"


def _bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _operations(operations: Iterable[Operation]) -> str:
    named = (f"{o.name} v{o.version}" + (f" x{o.count}" if o.count > 1 else "") for o in operations)
    return ", ".join(named) or "none"


def _fidelity(fidelity: Fidelity | None) -> str:
    if fidelity is None:
        return "not measured"
    return (
        f"differs by {fidelity.relative_error:.2%} of the output over {fidelity.steps:,} steps, "
        f"{fidelity.max_error:.2%} at most"
    )


# A file that another tool made


def _plain_page(model: Model, data: bytes, file: Path) -> list[tuple[str, str]]:
    graph = model.subgraphs[0]
    reason = _why_not(model, data, file)
    ports: list[tuple[str, str]] = []
    for signature in model.signatures:
        tensors = model.subgraphs[signature.subgraph].tensors
        ports.append(("signature", signature.name))
        ports += [("  input", _named(n, tensors[i])) for n, i in signature.inputs.items()]
        ports += [("  output", _named(n, tensors[i])) for n, i in signature.outputs.items()]
    if not ports:
        ports.append(("signature", "none"))
        ports += [
            ("  input", _named(graph.tensors[i].name, graph.tensors[i])) for i in graph.inputs
        ]
        ports += [
            ("  output", _named(graph.tensors[i].name, graph.tensors[i])) for i in graph.outputs
        ]
    minimum = f", needs TFLite {model.minimum_runtime}" if model.minimum_runtime else ""
    return [
        ("file", f"{file.name}, {len(data):,} bytes, without a manifest of edgelstm"),
        ("format", f"TFLite version {model.version}{minimum}"),
        *([("made", model.description)] if model.description else []),
        ("types", recipe_of(graph)),
        *([("graphs", str(len(model.subgraphs)))] if len(model.subgraphs) > 1 else []),
        *ports,
        *(("state", f"{name} -> {following}") for name, following in _states(model).items()),
        ("memory", f"weights {model.weights_bytes:,} bytes"),
        ("operations", _operations(model.operations)),
        *(("custom", _custom(name)) for name in model.custom_operations),
        *([("metadata", ", ".join(model.metadata))] if model.metadata else []),
        ("sha256", hashlib.sha256(data).hexdigest()),
        ("runs here", f"edgelstm.load() can step it: {f'no: {reason}' if reason else _yes(model)}"),
    ]


def _plain_data(model: Model, data: bytes, file: Path) -> dict[str, Any]:
    """The same as data; unlike a manifest it has no "schema_version"."""
    graph = model.subgraphs[0]
    reason = _why_not(model, data, file)
    return {
        "file": file.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "tflite_version": model.version,
        "minimum_runtime": model.minimum_runtime or None,
        "description": model.description,
        "recipe": recipe_of(graph),
        "subgraphs": len(model.subgraphs),
        "inputs": _tensors({graph.tensors[i].name: i for i in graph.inputs}, graph),
        "outputs": _tensors({graph.tensors[i].name: i for i in graph.outputs}, graph),
        "signatures": [
            {
                "name": signature.name,
                "subgraph": signature.subgraph,
                "inputs": _tensors(signature.inputs, model.subgraphs[signature.subgraph]),
                "outputs": _tensors(signature.outputs, model.subgraphs[signature.subgraph]),
            }
            for signature in model.signatures
        ],
        "states": [{"input": a, "output": b} for a, b in _states(model).items()],
        "weights_bytes": model.weights_bytes,
        "operations": [
            {"name": o.name, "version": o.version, "count": o.count} for o in model.operations
        ],
        "custom_operations": list(model.custom_operations),
        "metadata": list(model.metadata),
        "steps": reason is None,
        "reason": reason,
    }


def _tensors(named: Mapping[str, int], graph: Subgraph) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape_signature),
            "scales": [scale if math.isfinite(scale) else None for scale in tensor.scales],
            "zero_points": list(tensor.zero_points),
        }
        for name, tensor in ((name, graph.tensors[i]) for name, i in named.items())
    ]


def _why_not(model: Model, data: bytes, file: Path) -> str | None:
    """Why edgelstm cannot step a model; None when it can."""
    try:
        as_artifact(model, data, file.stem)
    except ArtifactError as error:
        return str(error)
    return None


def _yes(model: Model) -> str:
    if EDGE_TPU in model.custom_operations:
        return "yes, with the delegate of an Edge TPU"
    return "yes" if _states(model) else "yes; it has no states, so every reading stands alone"


def _states(model: Model) -> dict[str, str]:
    """The states that its signature names, as far as can be told."""
    try:
        return state_names(step_signature(model))
    except ArtifactError:
        return {}


def _custom(name: str) -> str:
    return f"{name} (compiled for the Edge TPU)" if name == EDGE_TPU else name


def _named(name: str, tensor: Tensor) -> str:
    shape = " x ".join("?" if n < 0 else str(n) for n in tensor.shape_signature)
    text = f"{name} {tensor.dtype} ({shape})"
    if tensor.per_channel:
        return f"{text}, {len(tensor.scales)} scales"
    for scale, zero_point in zip(tensor.scales, tensor.zero_points, strict=True):
        text += f", scale {scale:.4g}, zero point {zero_point}"
    return text
