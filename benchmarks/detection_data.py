"""The labelled recordings that detection is measured on, and the figures published for them.

SKAB (github.com/waico/SKAB, GPL-3.0: never copied into this project) and NAB
(github.com/numenta/NAB, MIT), in a folder with `skab/data` and `nab/data`, `nab/labels` as their
repositories have them; what of them is there is used. Pure functions; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.evaluation.label_files import read_column, read_windows
from edgelstm.evaluation.labels import Labels, all_normal, from_windows
from edgelstm.recording import Recording, read_csv

SKAB_PREFIX = 400
"""Rows of a SKAB file that train and calibrate; the rest is judged."""
NAB_SHARE, NAB_LONGEST_PREFIX = 0.15, 750
"""NAB's probationary period: this share of a series, at most so many rows; never judged."""
_SKAB_LABELS = ("anomaly", "changepoint")


@dataclass(frozen=True)
class LabelledSeries:
    """A recording with labels.

    Attributes:
        name: its file, with the folder: `other/1.csv`, `realTweets/Twitter_volume_KO.csv`.
        recording: its channels, without the labels.
        labels: of all its rows.
        prefix: how many of the first rows train and calibrate; judged are the others.
    """

    name: str
    recording: Recording
    labels: Labels
    prefix: int


def skab_other(data: Path) -> list[LabelledSeries]:
    """SKAB's `other`: the files that are there, in the order of their numbers.

    Args:
        data: the folder with `skab`.

    Raises:
        RecordingError: there is none, or a file is not as SKAB has it.
    """
    paths = sorted((data / "skab/data/other").glob("*.csv"), key=lambda path: int(path.stem))
    if not paths:
        raise RecordingError(f"{data} has no skab/data/other/*.csv; name the folder with the data.")
    return [_skab(path) for path in paths]


def skab_anomaly_free(data: Path) -> LabelledSeries:
    """SKAB's recording of normal operation, which has no labels because nothing happens.

    Args:
        data: the folder with `skab`.

    Raises:
        RecordingError: it is not there.
    """
    path = data / "skab/data/anomaly-free/anomaly-free.csv"
    recording = read_csv(path)
    return LabelledSeries(
        "anomaly-free/anomaly-free.csv", recording, all_normal(len(recording)), SKAB_PREFIX
    )


def nab(data: Path) -> list[LabelledSeries]:
    """The series of NAB that are there, by name, with their windows and when the events happened.

    Args:
        data: the folder with `nab`.

    Raises:
        RecordingError: there is none, or a file is not as NAB has it.
        ConfigurationError: a series has no labels.
    """
    root = data / "nab/data"
    paths = sorted(root.glob("*/*.csv"))
    if not paths:
        raise RecordingError(f"{data} has no nab/data/*/*.csv; name the folder with the data.")
    folder = data / "nab/labels"
    series = []
    for path in paths:
        name = f"{path.parent.name}/{path.name}"
        windows = read_windows(
            folder / "combined_windows.json", path, name, folder / "combined_labels.json"
        )
        recording = read_csv(path)
        labels_of_rows = from_windows(recording.timestamps, windows, name)
        series.append(
            LabelledSeries(name, *_in_order(recording, labels_of_rows), nab_prefix(len(recording)))
        )
    return series


def nab_prefix(rows: int) -> int:
    """How many rows NAB's probationary period has."""
    return min(int(NAB_SHARE * rows), NAB_LONGEST_PREFIX)


def _in_order(recording: Recording, labels: Labels) -> tuple[Recording, Labels]:
    """The recording with times that never go back, as one series of NAB does in local time.

    What comes after such a step is moved to one period after what came before, labels likewise.
    """
    steps = np.diff(recording.timestamps, prepend=recording.timestamps[0])
    moved = np.cumsum(np.where(steps < 0, recording.sample_period - steps, 0.0))
    events = tuple(
        event if event.time is None else event._replace(time=event.time + float(moved[event.start]))
        for event in labels.events
    )
    return (
        replace(recording, timestamps=recording.timestamps + moved),
        replace(labels, events=events),
    )


def _skab(path: Path) -> LabelledSeries:
    whole = read_csv(path)
    labels, _ = read_column(path, "anomaly", None)
    channels = [name for name in whole.channels if name not in _SKAB_LABELS]
    name = f"{path.parent.name}/{path.name}"
    return LabelledSeries(name, whole.with_channels(channels), labels, SKAB_PREFIX)


@dataclass(frozen=True)
class Published:
    """A row of somebody's table.

    Attributes:
        method: its name there.
        source: where the figures are from.
        f1: of the rows, by SKAB's scorer.
        false_alarm_rate: likewise, %.
        missed_alarm_rate: likewise, %.
        nab: NAB's score, standard profile; of all 58 series, at the threshold that made it best.
    """

    method: str
    source: str
    f1: float | None = None
    false_alarm_rate: float | None = None
    missed_alarm_rate: float | None = None
    nab: float | None = None

    @property
    def j(self) -> float | None:
        """100 - FAR - MAR; None where they are not published."""
        if self.false_alarm_rate is None or self.missed_alarm_rate is None:
            return None
        return 100 - self.false_alarm_rate - self.missed_alarm_rate


_SKAB_BOARD = "SKAB's README, outlier detection (34 files)"
_SKAB_EARLIER = "SKAB's README at an earlier commit (80bac4a), the same 34 files"
_NAB_BOARD = "NAB's README, v1.0, standard profile (58 series)"

PUBLISHED_SKAB = (
    Published("Conv-AE", _SKAB_BOARD, 0.78, 13.55, 28.02),
    Published("MSET", _SKAB_BOARD, 0.78, 39.73, 14.13),
    Published("T-squared+Q (PCA)", _SKAB_BOARD, 0.76, 26.62, 24.92),
    Published("LSTM-AE", _SKAB_BOARD, 0.74, 29.96, 25.92),
    Published("T-squared", _SKAB_BOARD, 0.66, 19.21, 42.60),
    Published("LSTM-VAE", _SKAB_BOARD, 0.56, 9.13, 55.03),
    Published("Vanilla LSTM", _SKAB_BOARD, 0.54, 12.54, 59.53),
    Published("Vanilla AE", _SKAB_BOARD, 0.39, 2.59, 75.15),
    Published("Conv-AE", _SKAB_EARLIER, 0.79, 13.69, 17.77),
    Published("MSET", _SKAB_EARLIER, 0.73, 20.82, 20.08),
    Published("LSTM-AE", _SKAB_EARLIER, 0.68, 14.24, 35.56),
)
"""Of all 34 files; the development files are 14 of them, so they say where we stand only roughly.

The board changed between versions of the README; the earlier one had the same methods at other
figures, one of them better than any on the later board, so both are here.
"""

PUBLISHED_NAB = (
    Published("Numenta HTM", _NAB_BOARD, nab=70.1),
    Published("CAD OSE", _NAB_BOARD, nab=69.9),
    Published("KNN CAD", _NAB_BOARD, nab=58.0),
    Published("Relative Entropy", _NAB_BOARD, nab=54.6),
    Published("Random Cut Forest", _NAB_BOARD, nab=51.7),
    Published("Twitter ADVec", _NAB_BOARD, nab=47.1),
    Published("Windowed Gaussian", _NAB_BOARD, nab=39.6),
    Published("Etsy Skyline", _NAB_BOARD, nab=35.7),
    Published("Bayesian Changepoint", _NAB_BOARD, nab=17.7),
    Published("EXPoSE", _NAB_BOARD, nab=16.4),
    Published("Random", _NAB_BOARD, nab=11.0),
    Published("Null", _NAB_BOARD, nab=0.0),
)
"""NAB's score seeks the best threshold over the whole corpus afterwards; see `evaluation.nab`."""
