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
from edgelstm.errors import ArtifactError, SignatureError
from edgelstm.loading import load
from edgelstm.signing import TrustedKeys


@click.command(short_help="Check that an artifact computes here what it computed when made.")
@click.argument("artifact", type=click.Path(path_type=Path))
@backend_option
@delegate_option
@click.option(
    "--public-key",
    "public_keys",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Also check that the file is signed with this key (PEM), or one of several.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def verify(
    context: click.Context,
    artifact: Path,
    backend: str,
    delegate: str | None,
    public_keys: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Check that a file is undamaged, and replay its golden vectors on this machine.

    They are a recorded input and the outputs that it gave when the artifact was made. Where they
    do not hold, the first run that differs is named, and the exit code is 1; so it is when a
    delegate did not run all of them, and when the file is not signed with a --public-key, or was
    changed since.

    Example: edgelstm verify pump.tflite
    """
    trusted = TrustedKeys.of(public_keys)
    with plain_warnings():
        try:
            with quiet_runtime():
                session = load(artifact, backend, delegate, trusted=trusted)
        except SignatureError as error:
            if as_json:
                refused = {"artifact": str(artifact), "holds": False, "refused": str(error)}
                click.echo(json.dumps(refused, indent=2))
            click.echo(f"Error: {error}", err=True)
            context.exit(1)
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
            **({"signed": True} if trusted else {}),
            **_finite(dataclasses.asdict(check)),
            "delegate": dataclasses.asdict(counters) if counters else None,
        }
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(f"{artifact.name} is undamaged (sha256 {manifest.sha256[:12]}...).")
        if trusted:
            click.echo(f"It is signed with a key of {trusted.rings[0].place}.")
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
