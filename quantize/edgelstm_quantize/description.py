"""Writes down what a conversion made: the manifest of an artifact."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

import edgelstm
from edgelstm.errors import ModelError
from edgelstm.manifest import (
    SCHEMA_VERSION,
    SIGNATURE,
    Channel,
    Fidelity,
    Manifest,
    Operation,
    Port,
    TensorSpec,
)
from edgelstm_quantize import runtimes
from edgelstm_quantize.layer_graph import End, LayerGraph
from edgelstm_quantize.quantization import QuantizedGraph
from edgelstm_quantize.recipes import Recipe
from edgelstm_quantize.rim import Rim, Scaling, channels_of

_WARM_UP = 20  # steps after a reset without alerts: the span of the score


@dataclass(frozen=True)
class Purpose:
    """What a model is for.

    Attributes:
        name: of the artifact.
        channels: names of the channels of all inputs, in order.
        categories: of each channel its texts, where it holds their numbers; else None.
        sample_period: seconds between readings.
        task: see `Manifest.task`.
        horizon: steps ahead of a forecast; 0 for anything else.
        targets: the channels that a forecast is of, in order; empty for anything else.
        window: readings in a window; None for a stream.
        hop: readings from one run to the next.
    """

    name: str
    channels: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    sample_period: float
    task: str
    horizon: int
    targets: tuple[str, ...]
    window: int | None
    hop: int


def describe(
    recipe: Recipe, quantized: QuantizedGraph, graph: LayerGraph, rim: Rim, purpose: Purpose
) -> Manifest:
    """The manifest of a quantised graph, before anything is measured."""
    model = quantized.flatbuffer
    scaling = "session" if rim.removed or recipe.integer else "graph"
    inputs = _inputs(quantized.inputs, graph, rim, purpose, scaling)
    outputs = _outputs(quantized.outputs, graph, rim, purpose, scaling)
    count = sum(len(port.channels) for port in outputs)
    blank = Manifest(
        schema_version=SCHEMA_VERSION,
        name=purpose.name,
        sha256="",
        flatbuffer_bytes=0,
        cpu_sha256=None,
        signature=SIGNATURE,
        mode="window" if purpose.window else "stream",
        window=purpose.window,
        hop=purpose.hop,
        recipe=recipe.name,
        inputs=inputs,
        outputs=outputs,
        task=purpose.task,
        horizon=purpose.horizon,
        sample_period=purpose.sample_period,
        warm_up=_WARM_UP,
        states=quantized.states,
        operations=(),
        runtimes={},
        fidelity=Fidelity(0, 0.0, 0.0, 1.0, None, None),  # measured with the graph at work
        detection=None,
        golden_tolerance=(recipe.rounding,) * count,
        versions=_versions(),
        created=_now(),
    )
    known = {k: v for k, v in runtimes.lowest_runtimes(model).items() if v is not None}
    return dataclasses.replace(describe_file(blank, model), runtimes=known)


def describe_file(manifest: Manifest, flatbuffer: bytes) -> Manifest:
    """The manifest with what is to be said of another flatbuffer of the same model."""
    return dataclasses.replace(
        manifest,
        sha256=hashlib.sha256(flatbuffer).hexdigest(),
        flatbuffer_bytes=len(flatbuffer),
        operations=tuple(
            Operation(op.name, op.version, op.count) for op in runtimes.operations(flatbuffer)
        ),
    )


def _inputs(
    specs: Sequence[TensorSpec], graph: LayerGraph, rim: Rim, purpose: Purpose, scaling: str
) -> tuple[Port, ...]:
    left = list(zip(purpose.channels, purpose.categories, strict=True))
    ports = []
    for spec, end, scale in zip(specs, graph.inputs, rim.inputs, strict=True):
        own = [left.pop(0) for _ in range(channels_of(end))]
        channels = tuple(
            dataclasses.replace(channel, categories=texts)
            for channel, (_, texts) in zip(
                _channels([name for name, _ in own], scale, _tokens(graph, end)), own, strict=True
            )
        )
        ports.append(Port(channels, scale.clip, scaling, spec))
    return tuple(ports)


def _outputs(
    specs: Sequence[TensorSpec], graph: LayerGraph, rim: Rim, purpose: Purpose, scaling: str
) -> tuple[Port, ...]:
    ports = []
    for spec, end, scale in zip(specs, graph.outputs, rim.outputs, strict=True):
        count = int(np.prod(spec.shape[1:]))
        if purpose.task == "forecast":
            names = _forecast(purpose, count, len(specs))
        elif purpose.task == "reconstruction":
            names = _reconstructed(purpose, count, len(specs))
        else:
            label = "output" if len(specs) == 1 else end.name
            names = [f"{label}_{i}" for i in range(count)] if count > 1 else [label]
        # The values of a window repeat the channels from step to step.
        wide = Scaling(np.resize(scale.mean, count), np.resize(scale.std, count))
        ports.append(Port(_channels(names, wide, None), None, scaling, spec))
    return tuple(ports)


def _forecast(purpose: Purpose, count: int, outputs: int) -> Sequence[str]:
    """The names of what a forecast is of: those of the channels."""
    if outputs > 1 or count != len(purpose.targets):
        raise ModelError(
            f"The model has {count} outputs for {len(purpose.targets)} channels, so it is no "
            "forecast of them; name those that it forecasts with --target, or use --horizon 0 to "
            "convert it without anomaly detection."
        )
    return purpose.targets


def _reconstructed(purpose: Purpose, count: int, outputs: int) -> Sequence[str]:
    """Names for the values of a window, from the oldest reading to the last."""
    window, channels = purpose.window or 0, purpose.channels
    if outputs > 1 or count != window * len(channels):
        raise ModelError(
            f"The model has {count} outputs for a window of {window} readings of {len(channels)} "
            "channels, so it does not reconstruct it; leave out --task reconstruction."
        )
    return [f"{name}[{age}]" for age in range(1 - window, 1) for name in channels]


def _channels(names: Sequence[str], scale: Scaling, tokens: int | None) -> tuple[Channel, ...]:
    return tuple(
        Channel(name, "", float(mean), float(std), tokens)
        for name, mean, std in zip(names, scale.mean, scale.std, strict=True)
    )


def _tokens(graph: LayerGraph, end: End) -> int | None:
    """How many tokens an input knows; None when it takes numbers."""
    sizes = [getattr(call.operation, "input_dim", None) for call in graph.readers(end.tensor)]
    known = [size for size in sizes if size is not None]
    return min(known) if known and len(end.tensor.shape) == 2 else None


def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "ai-edge-quantizer", "ai-edge-litert", "numpy")
    return {
        "edgelstm": edgelstm.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def _now() -> str:
    """The time of creation; SOURCE_DATE_EPOCH fixes it for reproducible files."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")
