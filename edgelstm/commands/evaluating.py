"""What `edgelstm evaluate` judges: recordings through an artifact, or scores from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgelstm.alert import AlertPolicy
from edgelstm.commands.console import ProgressLine
from edgelstm.commands.detection_options import Chosen
from edgelstm.commands.scoring import Scored, read_for_model, score_recording
from edgelstm.errors import ConfigurationError, RecordingError
from edgelstm.evaluation import ridge
from edgelstm.evaluation.judging import DETECTOR, Series, Track
from edgelstm.evaluation.label_files import NOTHING, read_column, read_windows
from edgelstm.evaluation.labels import (
    Labels,
    all_normal,
    from_windows,
    match_rows,
    need_same_time,
    rows_at,
)
from edgelstm.evaluation.plot import MOST_CHANNELS, Drawing, most_telling
from edgelstm.parquet import read_recording
from edgelstm.recording import Recording
from edgelstm.session import Session
from edgelstm.threshold import DEFAULT_FALSE_ALARMS_PER_DAY

Floats = NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class LabelSource:
    """Where labels come from.

    Attributes:
        text: as the user gave it.
        windows: a JSON file with windows of time.
        table: a file with the column, where that is another than the recording.
        column: the name of the column.
        series: the name of the series in `windows`.
        times: a JSON file that says when each event happened.
    """

    text: str
    windows: Path | None = None
    table: Path | None = None
    column: str | None = None
    series: str | None = None
    times: Path | None = None

    @classmethod
    def parse(cls, text: str, series: str | None, times: Path | None) -> LabelSource:
        """Reads what follows `--labels`.

        Raises:
            ConfigurationError: it names a table without a column, or an option is of no use.
        """
        if text.lower().endswith(".json"):
            return cls(text, windows=Path(text), series=series, times=times)
        if series is not None or times is not None:
            raise ConfigurationError(
                "--series and --label-times belong to labels in a .json file; --labels gives none."
            )
        table, colon, column = text.rpartition(":")
        if colon and Path(table).is_file():
            return cls(text, table=Path(table), column=column)
        if Path(text).is_file():
            raise ConfigurationError(
                f"--labels {text} is a file; say which of its columns holds the labels: "
                f"{text}:COLUMN."
            )
        return cls(text, column=None if text == NOTHING else text)

    @property
    def is_nothing(self) -> bool:
        """Whether all is said to be normal."""
        return self.windows is None and self.column is None

    def check(self, files: int) -> None:
        """Refuses what can be of one recording only, where there are several.

        Raises:
            ConfigurationError: the labels are of one recording.
        """
        if files > 1 and (self.table is not None or self.series is not None):
            raise ConfigurationError(
                f"--labels {self.text} holds the labels of one recording; judge the {files} one by "
                "one, or give labels that each recording finds by its name."
            )

    def read(self, recording: Path, times: Floats, time_column: str | None) -> Labels:
        """The labels of the rows of a recording.

        Args:
            recording: its path.
            times: of its rows, seconds.
            time_column: its name, where it is an unusual one.

        Raises:
            RecordingError: the labels are none, or of another recording.
            ConfigurationError: the JSON file cannot be read, or has no such series.
        """
        if self.windows is not None:
            windows = read_windows(self.windows, recording, self.series, self.times)
            return from_windows(times, windows, recording.name)
        if self.column is None:
            return all_normal(len(times))
        table = self.table or recording
        labels, label_times = read_column(table, self.column, time_column)
        return match_rows(labels, label_times, times, (table.name, recording.name))


@dataclass(frozen=True)
class Judgeable:
    """A recording with what was said of its rows, and their labels.

    Attributes:
        name: of the recording.
        times: of all its rows, seconds.
        labels: of all its rows.
        sample_period: seconds.
        tracks: what each method said.
        from_row: the first row that is judged.
        budget: false alarms a day that were granted, if known.
        drawing: what a picture of it shows.
        remarks: sentences for people.
    """

    name: str
    times: Floats
    labels: Labels
    sample_period: float
    tracks: dict[str, Track]
    from_row: int
    budget: float | None
    drawing: Drawing
    remarks: list[str] = field(default_factory=list)


def to_series(judged: Judgeable) -> Series:
    """The rows that are judged.

    Raises:
        RecordingError: there are none.
    """
    if not judged.labels.from_row(judged.from_row).known.any():
        raise RecordingError(
            f"{judged.name} has no row with a label from row {judged.from_row:,} on, so there is "
            "nothing to judge; give an earlier --from-row, or other labels."
        )
    return Series(
        judged.name,
        judged.times,
        judged.labels,
        judged.sample_period,
        judged.tracks,
        judged.from_row,
    )


def from_artifact(
    session: Session,
    path: Path,
    labels: LabelSource,
    *,
    time_column: str | None,
    from_row: int,
    any_rate: bool,
    chosen: Chosen,
    progress: ProgressLine,
) -> Judgeable:
    """Scores a recording as `edgelstm score` does.

    Raises:
        EdgelstmError: as `score_recording` and `LabelSource.read` do.
    """
    recording = read_for_model(path, session.artifact.manifest, time_column=time_column)
    of_rows = labels.read(path, recording.timestamps, time_column)
    scored = score_recording(
        session,
        recording,
        from_row=from_row,
        any_rate=any_rate,
        residuals=True,
        on_progress=lambda done, total: progress(f"scoring {path.name}", done, total),
        **chosen,
    )
    tracks = {DETECTOR: Track(scored.alerts, scored.onsets, scored.scores)}
    remarks = list(scored.remarks)
    detection = session.artifact.manifest.detection
    assert detection is not None  # noqa: S101  # the pipeline has seen to it
    progress(f"scoring {path.name} with a ridge regression", 0, 1)
    rules = ridge.Rules(
        scored.pipeline.budget,
        session.artifact.manifest.sample_period,
        detection.scorer,
        chosen["threshold"] or detection.threshold,
        chosen["policy"] or AlertPolicy(),
    )
    if any_rate:
        steady = np.arange(len(recording), dtype=np.float64) * rules.sample_period
        recording = replace(recording, timestamps=steady)
    _add_ridge(tracks, remarks, recording, scored.names, from_row, rules)
    return Judgeable(
        path.name,
        scored.times,
        of_rows,
        recording.sample_period,
        tracks,
        from_row,
        scored.pipeline.budget,
        _drawing(scored, detection.residual_scale),
        remarks,
    )


def from_scores(
    path: Path,
    recording_path: Path | None,
    labels: LabelSource,
    *,
    time_column: str | None,
    from_row: int,
    columns: Sequence[str],
    budget: float | None,
) -> Judgeable:
    """Takes scores that are made already, by whatever tool.

    The file has a column `score`; `alert` (0 and 1) says whether an alert is open, or else
    `threshold` what a score must exceed. Without both only the scores can be judged.

    Args:
        path: of the scores.
        recording_path: what they are of; rows are matched by number, or else by time.
        labels: where they come from; by default a column of the recording, or of the scores.
        time_column: its name, where it is an unusual one.
        from_row: the first row that is judged, of the recording if there is one.
        columns: of the recording, to draw and for the ridge floor; none: neither.
        budget: false alarms a day, for the ridge floor.

    Raises:
        RecordingError: the files cannot be read, do not fit each other, or have no scores.
        ConfigurationError: see `LabelSource.read`.
    """
    table = read_recording(path, time_column=time_column, missing=True)
    score = _column(table, "score")
    if score is None:
        raise RecordingError(
            f"{path} has no column 'score' with numbers in it; make it with edgelstm score, or "
            "call the column so."
        )
    threshold, alert = _column(table, "threshold"), _column(table, "alert")
    alarm: NDArray[np.bool_] | None = None
    remarks = []
    if alert is not None:
        if not np.isin(alert[~np.isnan(alert)], (0, 1)).all():
            raise RecordingError(f"{path} holds something else than 0 and 1 in its column 'alert'.")
        alarm = alert == 1
    elif threshold is not None:
        alarm = score > threshold
    else:
        remarks.append(
            f"{path.name} has neither a column 'alert' nor 'threshold', so only its scores are "
            "judged."
        )
    source, times, period = path, table.timestamps, table.sample_period
    rows = np.arange(len(table))
    values = None
    if recording_path is not None:
        recording = read_recording(
            recording_path, columns=columns or None, time_column=time_column, missing=True
        )
        source, times, period = recording_path, recording.timestamps, recording.sample_period
        rows = _place(table, recording)
        values = recording if columns else None
    of_rows = labels.read(source, times, time_column)
    count = len(times)
    first = max(from_row, int(rows[0]))
    tracks = {
        DETECTOR: Track(
            None if alarm is None else _spread(alarm, rows, np.zeros(count, bool)),
            None,
            _spread(score, rows, np.full(count, np.nan)),
        )
    }
    if values is None:
        remarks.append("No ridge floor: it needs the recording, and --columns for its channels.")
    else:
        rules = ridge.Rules(budget or DEFAULT_FALSE_ALARMS_PER_DAY, period)
        _add_ridge(tracks, remarks, values, values.channels, first, rules)
    levels = None if threshold is None else _spread(threshold, rows, np.full(count, np.nan))
    drawn = () if values is None else values.channels[:MOST_CHANNELS]
    drawing = Drawing(
        None if values is None else values.values[:, : len(drawn)],
        drawn,
        levels,
        _spread(score, rows, np.full(count, np.nan)),
    )
    return Judgeable(source.name, times, of_rows, period, tracks, first, budget, drawing, remarks)


def _column(table: Recording, name: str) -> Floats | None:
    return table.values[:, table.channels.index(name)] if name in table.channels else None


def _place(table: Recording, recording: Recording) -> NDArray[np.int64]:
    """The row of the recording that each row of the scores is of."""
    where = (recording.source, table.source)
    if len(table) == len(recording):
        need_same_time(recording.timestamps, table.timestamps, where)
        return np.arange(len(table))
    rows = rows_at(table.timestamps, recording.timestamps, where)
    if (rows < 0).any():
        raise RecordingError(
            f"{int((rows < 0).sum()):,} of the {len(rows):,} rows of {table.source} have a time "
            f"that {recording.source} has not; give the recording that these scores are of."
        )
    return rows


def _spread(values: NDArray[T], rows: NDArray[np.int64], onto: NDArray[T]) -> NDArray[T]:
    onto[rows] = values
    return onto


def _add_ridge(
    tracks: dict[str, Track],
    remarks: list[str],
    recording: Recording,
    names: Sequence[str],
    from_row: int,
    rules: ridge.Rules,
) -> None:
    """Adds the ridge floor, or says why it cannot be."""
    targets = [recording.channels.index(name) for name in names]
    readings = ridge.fit_rows(len(recording), from_row)
    try:
        forecasts = ridge.forecast(recording.values, targets, readings)
        watched = ridge.watch(forecasts, recording.values, recording.timestamps, targets, rules)
    except RecordingError as error:
        remarks.append(f"No ridge floor: {error}")
        return
    tracks["ridge"] = Track(watched.alarm, watched.onsets, watched.scores)
    if from_row == 0:
        remarks.append(
            f"The ridge floor was fitted on the first {readings:,} rows, which are judged, too; "
            "--from-row keeps them apart."
        )


def _drawing(scored: Scored, scale: Sequence[float]) -> Drawing:
    assert scored.residuals is not None  # noqa: S101  # asked for above
    part = slice(scored.from_row, None)
    # A window that is reconstructed has a scale for each of its readings; the last are shown.
    names = most_telling(
        scored.residuals[part], scored.names, scale[-len(scored.names) :], scored.alerts[part]
    )
    columns = [scored.recording.channels.index(name) for name in names]
    return Drawing(scored.recording.values[:, columns], names, scored.thresholds, scored.scores)
