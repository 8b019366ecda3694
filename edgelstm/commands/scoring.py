"""A recording through the pipeline of `run`, one reading at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelstm import parquet
from edgelstm.alert import AlertEvent, AlertKind, AlertPolicy
from edgelstm.errors import RecordingError
from edgelstm.manifest import Manifest
from edgelstm.pipeline import Achieved, Pipeline, Verdict, need_detection
from edgelstm.reading import Reading
from edgelstm.recording import Recording, same_period
from edgelstm.session import Session

_PROGRESS_ROWS = 2000


@dataclass(frozen=True)
class Scored:
    """What the pipeline made of each reading of a recording.

    Attributes:
        recording: what was scored, with the model's channels only.
        from_row: the first row that counts; those before it were warm-up.
        times: seconds since the Unix epoch, float64 (readings,).
        scores: float64 (readings,), NaN where there is none.
        thresholds: the level that each score had to exceed, NaN where there is no score.
        alerts: bool (readings,): whether an alert for an anomaly is open after the reading.
        onsets: bool (readings,): whether one opened at it.
        names: the channels that have residuals.
        residuals: observed - predicted, physical units, float64 (readings, names), NaN where
            there is none; of a window that is reconstructed those of its last reading. None unless
            asked for.
        pipeline: as it is after the last reading.
        remarks: sentences for the user.
    """

    recording: Recording
    from_row: int
    times: NDArray[np.float64]
    scores: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    alerts: NDArray[np.bool_]
    onsets: NDArray[np.bool_]
    names: tuple[str, ...]
    residuals: NDArray[np.float64] | None
    pipeline: Pipeline
    remarks: tuple[str, ...] = ()

    @property
    def achieved(self) -> Achieved:
        """How many alerts opened in how much scored time, from `from_row` on."""
        scored = int(np.isfinite(self.scores[self.from_row :]).sum())
        return Achieved(int(self.onsets[self.from_row :].sum()), self.pipeline.days(scored))


def read_for_model(
    path: Path,
    manifest: Manifest,
    *,
    time_column: str | None = None,
    rows: tuple[int | None, int | None] = (None, None),
) -> Recording:
    """Reads a recording as the device of this model would have sent it.

    Other columns, labels among them, are left out. Values may be missing; a text that the model
    does not know is. Without a time column the readings come at the model's rate.

    Raises:
        ArtifactError: the model has no detection.
        RecordingError: the file cannot be read, or a channel is missing.
        MissingDependencyError: it is a Parquet file, and pyarrow is not installed.
    """
    need_detection(manifest)  # whose channels else would hardly be those of the recording
    channels = manifest.channels
    recording = parquet.read_recording(
        path,
        columns=[channel.name for channel in channels],
        time_column=time_column,
        sample_period=manifest.sample_period,
        missing=True,
        categorical={c.name: c.categories for c in channels if c.categories},
    )
    return recording.rows(*rows)


def score_recording(
    session: Session,
    recording: Recording,
    *,
    from_row: int = 0,
    any_rate: bool = False,
    residuals: bool = False,
    on_change: Callable[[Verdict], object] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    false_alarms_per_day: float | None = None,
    policy: AlertPolicy | None = None,
    threshold: str | None = None,
) -> Scored:
    """Puts a recording through a pipeline, from zero states, as `run` would.

    Args:
        session: of an artifact with a detection.
        recording: with the model's channels, in any order; missing values are NaN.
        from_row: rows before it are warm-up: they are scored, but of no account.
        any_rate: whether a reading follows the one before, whatever their times say.
        residuals: whether to keep them.
        on_change: takes each verdict, from `from_row` on, at which an alert opened or closed.
        on_progress: takes how many readings are done, and of how many, now and then.
        false_alarms_per_day: as for `Pipeline`; so the others.
        policy: see there.
        threshold: see there.

    Raises:
        ArtifactError: the artifact has no detection.
        ConfigurationError: a setting makes no sense.
        RecordingError: the recording lacks a channel, has another rate, or is too short.
    """
    pipeline = Pipeline(
        session,
        false_alarms_per_day=false_alarms_per_day,
        policy=policy,
        threshold=threshold,
        any_rate=any_rate,
    )
    manifest = session.artifact.manifest
    recording = recording.with_channels([channel.name for channel in manifest.channels])
    remarks: list[str] = []
    if not any_rate:
        _need_rate(recording, manifest)
        remarks += _steps_back(recording)
    _need_rows(recording, from_row, manifest)
    session.reset()
    count = len(recording)
    names = pipeline.compared
    scores, thresholds = np.full((2, count), np.nan)
    alerts, onsets = np.zeros((2, count), bool)
    kept = np.full((count, len(names)), np.nan) if residuals else None
    update = pipeline.update
    rows = zip(recording.timestamps.tolist(), recording.values.tolist(), strict=True)
    for i, (timestamp, values) in enumerate(rows):
        verdict = update(Reading(timestamp, tuple(values), i if any_rate else None))
        if verdict.score is not None:
            scores[i] = verdict.score
            thresholds[i] = verdict.threshold
        if verdict.changes:
            onsets[i] = _opens(verdict)
            if on_change is not None and i >= from_row:
                on_change(verdict)
        if pipeline.open_alert is not None:
            alerts[i] = True
        if kept is not None and verdict.residual is not None:
            kept[i] = verdict.residual[-len(names) :]
        if on_progress is not None and i % _PROGRESS_ROWS == 0:
            on_progress(i, count)
    return Scored(
        recording,
        from_row,
        recording.timestamps,
        scores,
        thresholds,
        alerts,
        onsets,
        names,
        kept,
        pipeline,
        tuple(remarks),
    )


def _opens(verdict: Verdict) -> bool:
    """Whether an anomaly is announced at this reading."""
    return any(
        change.event is AlertEvent.OPENED and change.alert.kind is AlertKind.ANOMALY
        for change in verdict.changes
    )


def _steps_back(recording: Recording) -> list[str]:
    """What the pipeline does with times that go back, where they do, as a sentence."""
    place = recording.step_back()
    if place is None:
        return []
    return [
        f"{place}, as a log in local time does when daylight saving ends; readings that are older "
        "than those before them have no score. Write the times in UTC, or take the rows as they "
        "come with --any-rate."
    ]


def _need_rate(recording: Recording, manifest: Manifest) -> None:
    """Refuses readings that come at another rate than the model was made for."""
    found, needed = recording.sample_period, manifest.sample_period
    if not same_period(found, needed):
        raise RecordingError(
            f"{recording.source} has a reading every {found:.4g} s, but the model was made for one "
            f"every {needed:.4g} s: train and quantize a model for that rate, or take the rows as "
            "they come with --any-rate."
        )


def _need_rows(recording: Recording, from_row: int, manifest: Manifest) -> None:
    """Refuses a recording of which not a single reading could be scored."""
    count = len(recording)
    if not 0 <= from_row < count:
        raise RecordingError(
            f"{recording.source} has {count:,} rows, so none can be scored from row {from_row:,} "
            "on; choose an earlier one with --from-row."
        )
    runs = manifest.warm_up + 1 if manifest.horizon == 0 else max(manifest.warm_up, 1)
    first = (manifest.window or 1) - 1 + (runs - 1) * manifest.hop + manifest.horizon
    recording.need(first + 1, f"this model's first score, at row {first:,},")
    if count - from_row < manifest.hop:
        raise RecordingError(
            f"{recording.source} has {count - from_row:,} rows from row {from_row:,} on, and this "
            f"model gives a score every {manifest.hop:,}: choose an earlier --from-row."
        )
