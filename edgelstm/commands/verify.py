"""`edgelstm verify`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import click

from edgelstm.commands.console import (
    backend_option,
    delegate_option,
    format_delegate,
    plain_warnings,
    quiet_runtime,
)
from edgelstm.errors import ArtifactError
from edgelstm.loading import load


@click.command(short_help="Check that an artifact computes here what it computed when made.")
@click.argument("artifact", type=click.Path(path_type=Path))
@backend_option
@delegate_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify(
    context: click.Context, artifact: Path, backend: str, delegate: str | None, as_json: bool
) -> None:
    """Check that a file is undamaged, and replay its golden vectors on this machine.

    They are a recorded input and the outputs that it gave when the artifact was made. Where they
    do not hold, the first run that differs is named, and the exit code is 1; so it is when a
    delegate did not run all of them.

    Example: edgelstm verify pump.tflite
    """
    with plain_warnings():
        with quiet_runtime():
            session = load(artifact, backend, delegate)
        with session:
            manifest, runtime = session.artifact.manifest, f"{session.backend} {session.release}"
            if manifest.plain:
                raise ArtifactError(
                    f"{artifact} carries no golden vectors, so there is nothing to replay: it was "
                    "not made by 'edgelstm quantize'."
                )
            check = session.check()
            counters = session.delegate_counters
    if as_json:
        found = {
            "artifact": str(artifact),
            "sha256": manifest.sha256,
            "runtime": runtime,
            "holds": check.first is None,
            **_finite(dataclasses.asdict(check)),
            "delegate": dataclasses.asdict(counters) if counters else None,
        }
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(f"{artifact.name} is undamaged (sha256 {manifest.sha256[:12]}...).")
        if check.first is None:
            click.echo(
                f"On {runtime} all {check.runs} golden runs hold; the largest difference is "
                f"{check.worst:.0%} of what is tolerated."
            )
        else:
            click.echo(f"On {runtime} the golden runs do not hold, first in {check.first}.")
        if counters:
            click.echo(format_delegate(counters))
    if check.first or (counters and counters.cpu_steps):
        context.exit(1)


def _finite(value: Any) -> Any:
    """Plain data with None for what JSON has no number for: a model may give NaN."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
