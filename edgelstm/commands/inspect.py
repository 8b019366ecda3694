"""`edgelstm inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from edgelstm.artifact import Artifact
from edgelstm.commands.console import format_budget, format_runtimes
from edgelstm.manifest import Channel, Manifest, TensorSpec
from edgelstm.sinks.log import format_duration

_SHOWN = 16  # targets; a window may have hundreds


@click.command(short_help="Show what an artifact says about itself.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect(artifact: Path, as_json: bool) -> None:
    """Show what an artifact says about itself, after checking that it is undamaged.

    Example: edgelstm inspect pump.tflite
    """
    content = Artifact.read(artifact)
    if as_json:
        click.echo(content.manifest.to_json(), nl=False)
        return
    size = artifact.stat().st_size
    for line in _page(content.manifest, artifact.name, size, len(content.golden.x)):
        click.echo(line)


def _page(manifest: Manifest, file: str, size: int, golden_readings: int) -> list[str]:
    fidelity, detection = manifest.fidelity, manifest.detection
    tolerance = max(manifest.golden_tolerance)
    rows = [
        ("file", f"{file}, {size:,} bytes (model {manifest.flatbuffer_bytes:,}), undamaged"),
        ("name", manifest.name),
        ("made", f"{manifest.created} by edgelstm {manifest.versions.get('edgelstm', '?')}"),
        ("mode", _mode(manifest)),
        ("recipe", manifest.recipe),
        ("runtimes", format_runtimes(manifest)),
        ("period", format_duration(manifest.sample_period)),
        *(("channel", _channel(c)) for c in manifest.channels),
        *(("target", f"{_channel(t)}{_horizon(manifest)}") for t in manifest.targets[:_SHOWN]),
        *([("target", _more(len(manifest.targets)))] if len(manifest.targets) > _SHOWN else []),
        *(("input", _tensor(port.tensor)) for port in manifest.inputs),
        *(("output", _tensor(port.tensor)) for port in manifest.outputs),
        *(("state", f"{_tensor(s.input)} -> {s.output.name}") for s in manifest.states),
        ("operations", ", ".join(f"{op.name} v{op.version}" for op in manifest.operations)),
        (
            "fidelity",
            f"differs by {fidelity.relative_error:.2%} of the output over {fidelity.steps:,} "
            f"steps, {fidelity.max_error:.2%} at most",
        ),
        (
            "threshold",
            f"{format_budget(detection.false_alarms_per_day)}, set on {detection.readings:,} "
            f"{detection.residuals} residuals"
            if detection
            else "none",
        ),
        ("golden", f"{golden_readings} readings, tolerance {tolerance:.3g} at most"),
        ("sha256", manifest.sha256),
    ]
    return [f"{label:<11}{value}" for label, value in rows]


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
    return f"{channel.name}: mean {channel.mean:.4g}{unit}, std {channel.std:.4g}{unit}"


def _horizon(manifest: Manifest) -> str:
    return f", {manifest.horizon} step ahead" if manifest.horizon else ""


def _tensor(spec: TensorSpec) -> str:
    shape = " x ".join(map(str, spec.shape))
    scaling = f", scale {spec.scale:.4g}, zero point {spec.zero_point}" if spec.scale else ""
    return f"{spec.name} {spec.dtype} ({shape}){scaling}"
