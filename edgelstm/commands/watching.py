"""What the commands that watch share: opening an artifact, the loop, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from edgelstm.calibration_file import load_calibrated
from edgelstm.commands.console import format_budget, quiet_runtime
from edgelstm.latency import LatencyHistogram
from edgelstm.pipeline import Achieved, Pipeline, Verdict
from edgelstm.reading import Reading
from edgelstm.session import Session
from edgelstm.sinks.log import format_duration

_DAY_S = 86_400.0


def open_verified(
    artifact: Path,
    backend: str = "auto",
    delegate: str | None = None,
    *,
    calibration: bool = True,
) -> Session:
    """Loads an artifact and makes sure that it computes here what it computed when made.

    Args:
        artifact: the file.
        backend: the TFLite runtime.
        delegate: what else is to compute, if anything.
        calibration: whether a calibration that lies beside it is taken, and said so.

    Raises:
        ArtifactError: it is no artifact, is damaged, or its golden vectors do not hold here; or
            the calibration beside it is damaged or another model's.
        MissingDependencyError: no backend is installed.
        BackendError: the backend cannot run the model.
    """
    with quiet_runtime():
        session, taken = load_calibrated(artifact, backend, delegate, calibration=calibration)
    if taken is not None:
        click.echo(f"Using the calibration in {taken}.", err=True)
    return session


def watch(
    pipeline: Pipeline, readings: Iterable[Reading], latency: LatencyHistogram
) -> Iterator[Verdict]:
    """Puts each reading through the pipeline, and times it from the reading to the verdict."""
    for reading in readings:
        start = time.perf_counter_ns()
        verdict = pipeline.update(reading)
        latency.add(time.perf_counter_ns() - start)
        yield verdict


def format_achieved(achieved: Achieved, budget: float) -> str:
    """A line that sets the alerts that there were beside the budget.

    Args:
        achieved: see `Pipeline.achieved`.
        budget: false alarms per day.
    """
    time_scored = format_duration(achieved.days * _DAY_S)
    granted = f"the budget is {format_budget(budget)}"
    if not achieved.alerts or achieved.per_day is None:
        return f"No alert in {time_scored} of scored readings; {granted}."
    return (
        f"{_count(achieved.alerts, 'alert')} in {time_scored} of scored readings "
        f"({achieved.per_day:.2g} a day), true ones and false ones; {granted}."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
