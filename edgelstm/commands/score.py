"""`edgelstm score`."""

from __future__ import annotations

import csv
import importlib.util
import io
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np
from numpy.typing import NDArray

from edgelstm.commands.console import ProgressLine, Rows, backend_option
from edgelstm.commands.detection_options import detection_options, take_detection
from edgelstm.commands.scoring import Scored, read_for_model, score_recording
from edgelstm.commands.watching import format_achieved, open_verified
from edgelstm.csv_table import read_csv_table
from edgelstm.errors import ConfigurationError, MissingDependencyError
from edgelstm.files import atomic_path, check_output
from edgelstm.manifest import Manifest
from edgelstm.notice import AlertBook
from edgelstm.pipeline import Verdict
from edgelstm.sinks import SinkContext, SinkOptions
from edgelstm.sinks.jsonl import JsonlConfig, JsonlSink
from edgelstm.sinks.log import limits_by_name, summary
from edgelstm.tables import find_time_column

_STDOUT = Path("-")
_QUIET_S = 1.0  # before there is any talk of progress
_A_DATE = 1e8  # seconds: before 1973 they are no date, but a time since some start


@click.command(short_help="Score a recording, one reading at a time.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The .csv file to write; - is standard output.",
)
@click.option(
    "--from-row",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Rows before it warm the model up and are not written: those that it was trained on.",
)
@click.option("--channels", is_flag=True, help="Also write residual_NAME columns.")
@click.option(
    "--time-column",
    metavar="NAME",
    help="The column with the time; default: timestamp, time or datetime.",
)
@click.option("--rows", type=Rows(), default=":", help="Only these rows, such as 0:750.")
@click.option(
    "--any-rate", is_flag=True, help="Take each row as the next reading, whatever the times say."
)
@detection_options
@click.option(
    "--no-calibration", is_flag=True, help="Leave a calibration that lies beside ARTIFACT alone."
)
@backend_option
@click.option(
    "--alerts",
    "alerts_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also append the alerts to this file, as JSON lines.",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the scores (.png).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def score(
    artifact: Path,
    file: Path,
    output: Path,
    from_row: int,
    channels: bool,
    time_column: str | None,
    rows: tuple[int | None, int | None],
    any_rate: bool,
    no_calibration: bool,
    backend: str,
    alerts_file: Path | None,
    plot: Path | None,
    as_json: bool,
    force: bool,
    **options: Any,
) -> None:
    """Score a recording through the pipeline of 'edgelstm run', one reading at a time.

    FILE is CSV or Parquet with the model's channels; other columns are left out, and values may be
    missing. Written are time (as in FILE), score, threshold (both empty where there is none) and
    alert (1 while one is open).

    Example: edgelstm score pump.tflite pump.csv --from-row 5000 -o scores.csv
    """
    detection = take_detection(options)
    _check_outputs(output, plot, alerts_file, file, as_json=as_json, force=force)
    with ExitStack() as stack:
        session = stack.enter_context(
            open_verified(artifact, backend, calibration=not no_calibration)
        )
        recording = read_for_model(
            file, session.artifact.manifest, time_column=time_column, rows=rows
        )
        on_change: Callable[[Verdict], object] | None = None
        if alerts_file:
            on_change = stack.enter_context(_alerts_to(alerts_file, session.artifact.manifest))
        with ProgressLine() as progress:
            scored = score_recording(
                session,
                recording,
                from_row=from_row,
                any_rate=any_rate,
                residuals=channels or plot is not None,
                on_change=on_change,
                on_progress=_after_a_while(progress),
                **detection,
            )
        for remark in scored.remarks:
            click.echo(f"Warning: {remark}", err=True)
        with _opened(output) as out:
            write_scores(scored, time_texts(scored, file, time_column), out, channels=channels)
        if plot:
            from edgelstm.commands.score_plot import draw

            draw(scored, plot)
        if as_json:
            click.echo(json.dumps(summarise(scored), indent=2))
        else:
            for line in _lines(scored):
                click.echo(line, err=output == _STDOUT)


@contextmanager
def _alerts_to(file: Path, manifest: Manifest) -> Iterator[Callable[[Verdict], None]]:
    """Appends notices to a file; the ids are the same for the same recording."""
    numbers = itertools.count(1)
    book = AlertBook(
        "",
        manifest.name,
        partial(summary, limits=limits_by_name(manifest)),
        lambda _opened: f"alert-{next(numbers)}",
    )
    sink = JsonlSink(JsonlConfig(file, max_megabytes=0), SinkContext())
    options = SinkOptions("jsonl")  # as 'run --alerts' has them
    with closing(sink):
        sink.open()  # what cannot be written is known before the work is done

        def take(verdict: Verdict) -> None:
            for notice in filter(options.takes, book.take(verdict)):
                sink.send(notice)

        yield take


def write_scores(scored: Scored, times: list[str], out: TextIO, *, channels: bool) -> None:
    """Writes a row for each reading from `from_row` on.

    Numbers are written so that they are read back as they are.

    Args:
        scored: what to write.
        times: the text of each reading's time.
        out: to write to.
        channels: whether to write residuals, too.
    """
    part = slice(scored.from_row, None)
    columns = [
        times[part],
        _cells(scored.scores[part]),
        _cells(scored.thresholds[part]),
        scored.alerts[part].astype(int).tolist(),
    ]
    header = ["time", "score", "threshold", "alert"]
    if channels and scored.residuals is not None:
        header += [f"residual_{name}" for name in scored.names]
        columns += [_cells(column) for column in scored.residuals[part].T]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))


def _cells(numbers: NDArray[np.float64]) -> list[str]:
    """Numbers as text, empty where there is none."""
    return ["" if number != number else repr(number) for number in numbers.tolist()]


def time_texts(scored: Scored, file: Path, time_column: str | None) -> list[str]:
    """The text of each reading's time, as it is in a file of text.

    Args:
        scored: a recording.
        file: that it is from.
        time_column: as it was given.
    """
    lines = scored.recording.lines
    if lines is not None:
        table = read_csv_table(file)
        name = find_time_column(table, time_column)
        if name is not None:
            texts = table.texts(table.header.index(name))
            first = int(np.searchsorted(table.lines(), lines[0]))
            return texts[first : first + len(lines)]
    times = scored.times.tolist()
    if lines is None and times and times[0] >= _A_DATE:
        return [datetime.fromtimestamp(t, UTC).replace(tzinfo=None).isoformat(" ") for t in times]
    return [f"{t:.0f}" if t.is_integer() else repr(t) for t in times]


def summarise(scored: Scored) -> dict[str, Any]:
    """The figures of a run as plain data."""
    part = slice(scored.from_row, None)
    pipeline, achieved = scored.pipeline, scored.achieved
    counters = pipeline.counters
    manifest = pipeline.session.artifact.manifest
    return {
        "artifact": manifest.name,
        "sha256": manifest.sha256,
        "recording": scored.recording.source,
        "rows": len(scored.recording),
        "from_row": scored.from_row,
        "scored": int(np.isfinite(scored.scores[part]).sum()),
        "alerts": achieved.alerts,
        "alert_share": float(scored.alerts[part].mean()),
        "open_at_the_end": bool(scored.alerts[-1]),
        "sensor_faults": counters.sensor_faults,
        "days": achieved.days,
        "alerts_per_day": achieved.per_day,
        "false_alarms_per_day_budget": pipeline.budget,
        "unusable": counters.unusable,
        "gaps": counters.gaps,
        "restarts": counters.restarts,
    }


def _lines(scored: Scored) -> Iterator[str]:
    """The summary for people."""
    facts = summarise(scored)
    counters = scored.pipeline.counters
    before = f", after {scored.from_row:,} to warm up" if scored.from_row else ""
    yield (
        f"{facts['rows'] - scored.from_row:,} readings{before}; {facts['scored']:,} with a score; "
        f"an alert was open for {facts['alert_share']:.1%} of them."
    )
    if scored.from_row and scored.alerts[scored.from_row - 1]:
        yield "An alert was open already before the first of them."
    if facts["scored"]:
        yield format_achieved(scored.achieved, scored.pipeline.budget)
    if counters.sensor_faults:
        yield f"Sensor faults: {counters.sensor_faults:,}."
    trouble = {
        "with too few values": counters.unusable,
        "after a short gap, each without a score": counters.gaps,
        "after a long one, where the states were reset": counters.restarts,
    }
    if said := [f"{count:,} {what}" for what, count in trouble.items() if count]:
        yield f"Readings: {'; '.join(said)}."


def _check_outputs(
    output: Path,
    plot: Path | None,
    alerts_file: Path | None,
    file: Path,
    *,
    as_json: bool,
    force: bool,
) -> None:
    """Refuses what cannot be written, before any work is done for it."""
    if as_json and output == _STDOUT:
        raise ConfigurationError(
            "-o - and --json both want standard output; write the scores to a file."
        )
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("--plot needs matplotlib; run: pip install 'edgelstm[plot]'")
    written = [path for path in (output, plot, alerts_file) if path not in (None, _STDOUT)]
    for path in (output, plot):
        if path is not None and path != _STDOUT:
            check_output(path, force=force)
    names = [path.resolve() for path in (*written, file) if path is not None]
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f"{output} is named for two things at once; give each file a name of its own."
        )


def _after_a_while(progress: ProgressLine) -> Callable[[int, int], None]:
    """Progress that is only shown of what takes its time."""
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        if time.monotonic() - began > _QUIET_S:
            progress("scoring", done, total)

    return show


@contextmanager
def _opened(output: Path) -> Iterator[TextIO]:
    """The file to write, which is there as a whole or not at all; or standard output."""
    if output == _STDOUT:
        text = io.StringIO()
        yield text
        click.echo(text.getvalue(), nl=False)
        return
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8") as out:
        yield out
