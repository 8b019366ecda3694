"""`edgelstm compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from edgelstm.commands.console import (
    ProgressLine,
    backend_option,
    read_recording,
    recording_options,
)
from edgelstm.commands.watching import open_verified
from edgelstm.comparison import (
    Comparison,
    Outputs,
    Side,
    check_comparable,
    compare_outputs,
    describe_side,
    score_change,
    time_in_turns,
)
from edgelstm.errors import ArtifactError
from edgelstm.manifest import Manifest
from edgelstm.pipeline import Pipeline
from edgelstm.reading import Reading
from edgelstm.recording import Recording, format_time
from edgelstm.session import Session

_REPORT_EVERY = 500  # readings
_FIRST_DATE = 1e8  # smaller timestamps (before 1973) count from the start of the recording


@click.command(short_help="Set two artifacts side by side.")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A recording (CSV or Parquet) that both run over.",
)
@recording_options
@backend_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def compare(
    a: Path,
    b: Path,
    data: Path,
    backend: str,
    as_json: bool,
    rows: tuple[int | None, int | None],
    **reading: Any,
) -> None:
    """Set two artifacts side by side: size, fidelity, speed.

    Both run over a recording, each from reading to reading with its own states. The difference
    between A and B is relative to the root mean square of B's output. Speed is measured on this
    machine, in turns.

    Example: edgelstm compare int8.tflite int8-float.tflite --data pump.csv
    """
    with (
        open_verified(a, backend, calibration=False) as first,
        open_verified(b, backend, calibration=False) as second,
    ):
        notes = check_comparable(first.artifact.manifest, second.artifact.manifest)
        whole = read_recording(data, rows=(None, None), **reading)
        start, _, _ = slice(*rows).indices(len(whole))
        with ProgressLine() as progress:
            comparison = _compare(
                (a, b), (first, second), whole.rows(*rows), start, notes, progress
            )
    if as_json:
        click.echo(comparison.to_json())
        return
    for line in (*_table(comparison.a, comparison.b), "", *_over_recording(comparison)):
        click.echo(line)


def _compare(
    files: tuple[Path, Path],
    sessions: tuple[Session, Session],
    recording: Recording,
    first_row: int,
    notes: Sequence[str],
    progress: ProgressLine,
) -> Comparison:
    a, b = manifests = [session.artifact.manifest for session in sessions]
    recordings = [recording.with_channels([c.name for c in m.channels]) for m in manifests]
    jobs = list(zip("ab", sessions, recordings, strict=True))
    of_a, of_b = (_run(*job, progress) for job in jobs)
    difference = compare_outputs(a, b, (of_a, of_b), recording.timestamps, first_row)
    change = None
    alerts: list[int | None] = [None, None]
    if _detects(a) and _detects(b):
        (scores_a, alerts[0]), (scores_b, alerts[1]) = (_score(*job, progress) for job in jobs)
        change = score_change(scores_a, scores_b)
    speeds = time_in_turns(
        [(session.step, own.values) for _, session, own in jobs],
        on_progress=lambda done, total: progress("timing both in turns", done, total),
    )
    side_a, side_b = (
        describe_side(str(file), file.stat().st_size, manifest, session.backend, speed, opened)
        for file, manifest, session, speed, opened in zip(
            files, manifests, sessions, speeds, alerts, strict=True
        )
    )
    return Comparison(
        a=side_a,
        b=side_b,
        speed_ratio=side_a.speed.median_us / side_b.speed.median_us,
        recording=recording.source,
        readings=len(recording),
        difference=difference,
        score_change=change,
        notes=tuple(notes),
    )


def _run(label: str, session: Session, recording: Recording, progress: ProgressLine) -> Outputs:
    """Steps an artifact over a recording, from zero states.

    Raises:
        ArtifactError: it gives a value that is not finite.
    """
    session.reset()
    rows, values = [], []
    for i, x in enumerate(recording.values):
        if i % _REPORT_EVERY == 0:
            progress(f"running {label}", i, len(recording))
        y = session.step(x)
        if y is None:
            continue
        if not np.isfinite(y).all():
            raise ArtifactError(
                f"{label} gives a value that is not finite at reading {i} of {recording.source}; "
                "convert it again with another recipe."
            )
        rows.append(i)
        values.append(y)
    targets = len(session.artifact.manifest.targets)
    return Outputs(np.array(rows, np.int64), np.array(values).reshape(-1, targets))


def _detects(manifest: Manifest) -> bool:
    return manifest.detection is not None


def _score(
    label: str, session: Session, recording: Recording, progress: ProgressLine
) -> tuple[NDArray[np.float64], int]:
    """The score of each reading, (readings,), NaN where there is none, and the alerts opened."""
    session.reset()
    pipeline = Pipeline(session)
    scores = np.full(len(recording), np.nan)
    for i, x in enumerate(recording.values):
        if i % _REPORT_EVERY == 0:
            progress(f"scoring {label}", i, len(recording))
        # Numbered without a gap, so that the states run through as they did for the outputs.
        verdict = pipeline.update(Reading(float(recording.timestamps[i]), tuple(x), i))
        if verdict.score is not None:
            scores[i] = verdict.score
    return scores, pipeline.alerts


def _table(a: Side, b: Side) -> list[str]:
    """The two artifacts as columns, and a / b where that says something."""
    names = [Path(side.file).name for side in (a, b)]
    if names[0] == names[1]:
        names = [a.file, b.file]
    rows = [("", "a", "b", "a / b"), ("file", *names, "")]

    def text(label: str, tell: Callable[[Side], str]) -> None:
        rows.append((label, tell(a), tell(b), ""))

    def figure(label: str, tell: Callable[[Side], float], form: str) -> None:
        x, y = tell(a), tell(b)
        rows.append((label, form.format(x), form.format(y), f"{x / y:.2f}" if y else ""))

    text("recipe", lambda side: side.recipe)
    text("mode", _mode)
    figure("file size", lambda side: side.bytes, "{:,} bytes")
    figure("model size", lambda side: side.model_bytes, "{:,} bytes")
    figure("operations", lambda side: side.operations, "{}")
    packages = sorted({*a.runtimes, *b.runtimes})
    rows += [(name, _lowest(a, name), _lowest(b, name), "") for name in packages]
    text("inputs", lambda side: _dtypes(side.inputs))
    text("outputs", lambda side: _dtypes(side.outputs))
    text("off Keras by", lambda side: f"{side.fidelity.relative_error:.2%}")
    text("  at most", lambda side: f"{side.fidelity.max_error:.2%}")
    text("  drift", lambda side: f"{side.fidelity.drift:.2f}")
    text("runs with", lambda side: side.backend)
    figure("step, median", lambda side: side.speed.median_us, "{:,.1f} us")
    figure("step, p90", lambda side: side.speed.p90_us, "{:,.1f} us")
    label, first, second = (max(len(row[k]) for row in rows) for k in range(3))
    return [
        f"{row[0]:<{label}}  {row[1]:<{first}}  {row[2]:<{second}}  {row[3]}".rstrip()
        for row in rows
    ]


def _over_recording(comparison: Comparison) -> list[str]:
    """What the recording showed, in a few lines."""
    difference, largest = comparison.difference, comparison.difference.largest
    spread = f"{difference.max_error:.2%} at most"
    if difference.correlation is not None:
        spread += f", correlation {difference.correlation:.4f}"
    rows = [
        (
            "Recording",
            f"{comparison.recording}: {comparison.readings:,} readings, "
            f"{difference.rows:,} with an output of both",
        ),
        (
            "Outputs",
            f"a differs from b by {difference.relative_error:.2%} of b's output ({spread})",
        ),
        (
            "Worst",
            f"target {difference.worst_target!r}, which differs by {difference.worst_error:.2%}",
        ),
        (
            "Largest",
            f"row {largest.row} ({_when(largest.timestamp)}), target {largest.target!r}: "
            f"a {largest.a:.5g}, b {largest.b:.5g}",
        ),
    ]
    if comparison.a.alerts is not None:
        change = comparison.score_change
        told = "" if change is None else f"a's differ from b's by {change:.1%}; "
        rows.append(
            ("Scores", f"{told}alerts: {comparison.a.alerts} of a, {comparison.b.alerts} of b")
        )
    rows += [("Note", note) for note in comparison.notes]
    return [f"{label:<10}{text}" for label, text in rows]


def _mode(side: Side) -> str:
    if side.window is None:
        return side.mode
    return f"window {side.window}, hop {side.hop}"


def _lowest(side: Side, package: str) -> str:
    release = side.runtimes.get(package)
    return f"{release} or later" if release else "no"


def _dtypes(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in tensors.items())


def _when(timestamp: float) -> str:
    return format_time(timestamp) if timestamp >= _FIRST_DATE else f"{timestamp:g} s"
