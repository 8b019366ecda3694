"""`edgelstm evaluate`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgelstm.commands.console import ProgressLine, backend_option
from edgelstm.commands.detection_options import detection_options, take_detection
from edgelstm.commands.evaluating import (
    Judgeable,
    LabelSource,
    from_artifact,
    from_scores,
    to_series,
)
from edgelstm.commands.evaluation_lines import format_report
from edgelstm.commands.record import Duration
from edgelstm.commands.watching import open_verified
from edgelstm.errors import ConfigurationError, MissingDependencyError
from edgelstm.evaluation.judging import DETECTOR
from edgelstm.evaluation.label_files import need_two_kinds
from edgelstm.evaluation.plot import draw
from edgelstm.evaluation.report import make_report
from edgelstm.files import check_output


@click.command(short_help="Set alerts and scores against labels.")
@click.argument("paths", metavar="[ARTIFACT] FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--labels",
    "labels_text",
    required=True,
    metavar="WHAT",
    help="A column of 0 and 1 in FILE; TABLE.csv:COLUMN; windows in a .json file (NAB's, or a list "
    "of [start, end]); or none, if all is normal.",
)
@click.option("--series", metavar="NAME", help="The series in the .json file; default: by name.")
@click.option(
    "--label-times",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A .json file that says when in its window each event happened (NAB's combined_labels).",
)
@click.option(
    "--scores",
    "score_files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Judge these scores (columns time, score, threshold, alert) instead of an artifact's; "
    "FILE may be left out then.",
)
@click.option(
    "--from-row",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Judge from this row on; those before it warm up, and the ridge floor is fitted on them.",
)
@click.option(
    "--lead",
    type=Duration(),
    default=0.0,
    metavar="DURATION",
    help="An alert still open when an event begins finds it if it opened at most so long before.",
)
@click.option(
    "--buffer",
    type=click.IntRange(min=0),
    metavar="N",
    help="Readings around events that VUS-PR forgives; default: 100, or the median event.",
)
@click.option("--point-adjusted", is_flag=True, help="Also say what flatters.")
@click.option(
    "--columns",
    metavar="A,B",
    help="With --scores: the channels of FILE, for the ridge floor and the picture.",
)
@click.option("--time-column", metavar="NAME", help="The column with the time.")
@click.option("--any-rate", is_flag=True, help="Take the rows as they come, whatever their times.")
@detection_options
@backend_option
@click.option(
    "--no-calibration", is_flag=True, help="Leave a calibration that lies beside ARTIFACT alone."
)
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw a .png.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--force", is_flag=True, help="Replace the picture.")
def evaluate(
    paths: tuple[Path, ...],
    labels_text: str,
    series: str | None,
    label_times: Path | None,
    score_files: tuple[Path, ...],
    from_row: int,
    lead: float,
    buffer: int | None,
    point_adjusted: bool,
    columns: str | None,
    time_column: str | None,
    any_rate: bool,
    backend: str,
    no_calibration: bool,
    plot: Path | None,
    as_json: bool,
    force: bool,
    **options: Any,
) -> None:
    """Set alerts and scores against labels, beside what knows nothing gets.

    FILE goes through the pipeline of run, reading by reading. An event is found when an alert opens
    in it. The floors stand in the same table: ridge (a linear forecast, scored alike), random (as
    many alerts, as long, anywhere), clock (on after a fifth) and always on. Several FILEs are
    judged together.

    Example: edgelstm evaluate pump.tflite pump.csv --labels anomaly --from-row 400
    """
    chosen = take_detection(options)
    labels = LabelSource.parse(labels_text, series, label_times)
    judged: Sequence[Judgeable]
    if score_files:
        if chosen["policy"] is not None or chosen["threshold"] is not None:
            raise ConfigurationError(
                "--scores holds alerts that are made already; options of the detection go to "
                "edgelstm score."
            )
        files = paths
        if files and len(files) != len(score_files):
            raise ConfigurationError(
                f"There {'is' if len(score_files) == 1 else 'are'} "
                f"{_count(len(score_files), 'file')} of scores and "
                f"{_count(len(files), 'recording')}; give one recording for each, or none."
            )
    elif columns:
        raise ConfigurationError(
            "--columns goes with --scores; an artifact knows its channels by itself."
        )
    elif len(paths) < 2:
        raise ConfigurationError(
            "There is nothing to judge; give an artifact and a recording, or --scores FILE."
        )
    else:
        files = paths[1:]
    names = [name.strip() for name in columns.split(",")] if columns else []
    labels.check(len(score_files) or len(files))
    if plot:
        _check_plot(plot, force, len(score_files) or len(files))
    with ProgressLine() as progress:
        if score_files:
            recordings: Sequence[Path | None] = files or [None] * len(score_files)
            judged = [
                from_scores(
                    scores,
                    recording,
                    labels,
                    time_column=time_column,
                    from_row=from_row,
                    columns=names,
                    budget=chosen["false_alarms_per_day"],
                )
                for scores, recording in zip(score_files, recordings, strict=True)
            ]
        else:
            with open_verified(paths[0], backend, calibration=not no_calibration) as session:
                judged = [
                    from_artifact(
                        session,
                        file,
                        labels,
                        time_column=time_column,
                        from_row=from_row,
                        any_rate=any_rate,
                        chosen=chosen,
                        progress=progress,
                    )
                    for file in files
                ]
        all_series = [to_series(one) for one in judged]
        if not labels.is_nothing:
            need_two_kinds([one.labels for one in all_series], f"--labels {labels.text}")
        progress("judging", 0, 1)
        report = make_report(
            all_series,
            budget_per_day=judged[0].budget,
            lead=lead,
            buffer=buffer,
            point_adjusted=point_adjusted,
            remarks=list(dict.fromkeys(remark for one in judged for remark in one.remarks)),
        )
        if plot:
            progress("drawing", 0, 1)
            draw(
                all_series[0],
                judged[0].drawing,
                _title(report.methods[DETECTOR], judged[0].name),
                plot,
                lead,
            )
    if as_json:
        click.echo(report.to_json())
        return
    for line in format_report(report):
        click.echo(line)
    if plot:
        click.echo(f"Wrote {plot}.")


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _check_plot(plot: Path, force: bool, files: int) -> None:
    if files > 1:
        raise ConfigurationError("--plot draws one recording; give one FILE.")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError("--plot needs matplotlib; run: pip install 'edgelstm[plot]'")
    check_output(plot, force=force, suffix=".png")


def _title(figures: Any, name: str) -> str:
    parts = [name]
    if figures.found is not None and figures.events:
        parts.append(f"{figures.found:.0f} of {figures.events:.0f} labelled events found")
    if figures.false_alarms is not None:
        false = int(figures.false_alarms)
        parts.append(f"{false:,} false {'alarm' if false == 1 else 'alarms'}")
    return ", ".join(parts)
