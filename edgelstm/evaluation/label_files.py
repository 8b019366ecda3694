"""Labels from files: a column of 0 and 1 in a table, or windows of time in JSON.

The JSON is one of:

- NAB's: `{"realTweets/x.csv": [["2015-03-01 10:00:00", "2015-03-02 10:00:00"], ...], ...}`; the
  series is found by the recording's name;
- a plain list of pairs, `[[start, end], ...]`;
- `{"failures": [{"time": ..., "window": [start, end]}, ...]}`.

Times are ISO 8601 (UTC where they have no zone) or seconds since 1970. A second file of NAB's form,
with single times in place of pairs, may say when each event happened within its window.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError, RecordingError
from edgelstm.evaluation.labels import Labels, Window, from_column
from edgelstm.parquet import read_recording
from edgelstm.tables import parse_time

NOTHING = "none"
"""In place of a column or a file: nothing happened in the recording."""
_TRUTH = {"false": 0.0, "true": 1.0, "0": 0.0, "1": 1.0}
_FORMS = (
    'a list of [start, end] pairs, {"series.csv": [[start, end], ...]}, or '
    '{"failures": [{"time": ..., "window": [start, end]}]}'
)


def read_column(
    path: Path, column: str, time_column: str | None
) -> tuple[Labels, NDArray[np.float64]]:
    """The labels of a column and the times of its rows.

    It holds 0 and 1, or False and True; an empty cell says that nothing is known.

    Raises:
        RecordingError: the file cannot be read, has no such column, or it holds something else.
        MissingDependencyError: it is a Parquet file, and pyarrow is not installed.
    """
    table = read_recording(
        path, columns=[column], time_column=time_column, missing=True, categorical=[column]
    )
    where = f"{path.name}, column {column!r},"
    values = table.values[:, 0]
    texts = table.categories.get(column)
    if texts is not None:
        meaning = [_TRUTH.get(text.lower()) for text in texts]
        if None in meaning:
            other = texts[meaning.index(None)]
            raise RecordingError(
                f"{where} holds {other!r}, but labels are 0 (normal) and 1 (anomalous); is it a "
                "column of labels?"
            )
        known = ~np.isnan(values)
        values = np.where(known, np.array(meaning)[np.where(known, values, 0).astype(int)], np.nan)
    return from_column(values, where), table.timestamps


def read_windows(
    path: Path, recording: Path, series: str | None = None, times_file: Path | None = None
) -> list[Window]:
    """The labelled windows of a recording.

    Args:
        path: JSON of one of the forms above.
        recording: its path, by which its series is found where the file has several.
        series: the name of the series, where the path does not tell.
        times_file: says when each event happened, in the form of NAB's `combined_labels.json`.

    Raises:
        ConfigurationError: a file cannot be read, has another form, or has no such series.
    """
    windows = [_window(item, path) for item in _items(path, recording, series, _FORMS)]
    if times_file is None:
        return windows
    form = 'a list of times, or {"series.csv": [time, ...]}'
    times = [_time(t, times_file, form) for t in _items(times_file, recording, series, form)]
    return [
        window._replace(time=next((t for t in times if window.start <= t <= window.end), None))
        for window in windows
    ]


def _items(path: Path, recording: Path, series: str | None, form: str) -> list[Any]:
    """What a file says of a recording."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON ({error}).") from error
    if isinstance(content, dict):
        if isinstance(content.get("failures"), list) and series is None:
            content = content["failures"]
        else:
            content = content[_find_series(list(content), path, recording, series)]
    if not isinstance(content, list):
        raise ConfigurationError(f"{path} holds no labels; they are {form}.")
    return content


def _find_series(names: Sequence[str], path: Path, recording: Path, series: str | None) -> str:
    if series is not None:
        if series in names:
            return series
        raise ConfigurationError(f"{path} has no series {series!r}; {_some(names)}.")
    found = [name for name in names if PurePosixPath(name).name == recording.name]
    if len(found) > 1:
        # The folders tell series of the same name apart.
        parts = recording.resolve().as_posix()
        found = [name for name in found if parts.endswith(f"/{name}")]
    if len(found) != 1:
        raise ConfigurationError(
            f"{path} has no one series for {recording.name}; name it with --series: {_some(names)}."
        )
    return found[0]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"it has {', '.join(names[:3])}{more}" if names else "it has none at all"


def _window(item: Any, path: Path) -> Window:
    time = None
    if isinstance(item, dict):
        time = item.get("time")
        item = item.get("window")
    if not isinstance(item, list) or len(item) != 2:
        raise ConfigurationError(
            f"{path} holds {json.dumps(item)} where a window [start, end] belongs; labels are "
            f"{_FORMS}."
        )
    start, end = (_time(value, path, _FORMS) for value in item)
    return Window(start, end, None if time is None else _time(time, path, _FORMS))


def _time(value: Any, path: Path, form: str) -> float:
    seconds = math.nan
    if isinstance(value, str):
        seconds = parse_time(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    if not math.isfinite(seconds):
        raise ConfigurationError(
            f"{path} holds {json.dumps(value)} where a time (ISO 8601, or seconds since 1970) "
            f"belongs; it should hold {form}."
        )
    return seconds


def need_two_kinds(labels: Sequence[Labels], where: str) -> None:
    """Refuses labels that leave nothing to be right or wrong about.

    Args:
        labels: of all recordings, of the rows that are judged.
        where: what a message calls them.

    Raises:
        RecordingError: all rows are normal, or all are anomalous.
    """
    known = sum(int(one.known.sum()) for one in labels)
    anomalous = sum(int(one.anomalous.sum()) for one in labels)
    if not anomalous:
        raise RecordingError(
            f"Every row that is judged is normal by {where}, so there is nothing to find; if that "
            f"is so, say --labels {NOTHING}."
        )
    if anomalous == known:
        raise RecordingError(
            f"Every row that is judged is anomalous by {where}, so no alert could be false; give "
            "labels with 0 for normal rows, and a recording that has some."
        )
