"""Calibrates the detection of an artifact on what its quantised model gave over recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgelstm.calibrating import (
    SETTLING,
    Judged,
    calibrate_with_scores,
    judge,
    limits_of,
    residual_rms,
    score,
)
from edgelstm.calibration_checks import anomaly_inside, extrapolation
from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Detection, Manifest
from edgelstm.recording import Recording
from edgelstm.residuals import make_residuals
from edgelstm.threshold import default_budget
from edgelstm_quantize.fidelity import relative_change
from edgelstm_quantize.summary import DetectionSummary, ResidualSummary

Ranges = Mapping[str, tuple[float | None, float | None]]
"""Of some channels, by name, the lowest and the highest value that a sensor can give."""
NO_RANGES: Ranges = MappingProxyType({})


@dataclass(frozen=True)
class Calibrated:
    """A detection and what it came from.

    Attributes:
        detection: what goes into the artifact.
        names: the channels that residuals are of.
        shares_of: for each target the number of its name, (targets,).
        residuals: of the quantised model, physical units, (readings, targets); NaN where there is
            none.
        float_residuals: the same of the Keras model.
        scores: of the quantised model, (readings,); NaN where there is none.
        judged: what the threshold makes of them; None where it cannot keep the budget.
        score_change: mean relative change of the score from the Keras model to the quantised.
        remarks: sentences for the user.
    """

    detection: Detection
    names: tuple[str, ...]
    shares_of: NDArray[np.intp]
    residuals: NDArray[np.float64]
    float_residuals: NDArray[np.float64]
    scores: NDArray[np.float64]
    judged: Judged | None
    score_change: float
    remarks: tuple[str, ...]

    @property
    def summary(self) -> DetectionSummary:
        """The figures, as plain data."""
        detection, judged = self.detection, self.judged
        ours, exact = (
            self._per_channel(residual_rms(rows)) for rows in (self.residuals, self.float_residuals)
        )
        scale = self._per_channel(np.array(detection.residual_scale))
        return DetectionSummary(
            residuals=detection.residuals,
            readings=detection.readings,
            channels=tuple(
                ResidualSummary(name, float(a), float(b), float(c))
                for name, a, b, c in zip(self.names, ours, exact, scale, strict=True)
            ),
            tail_start=detection.tail.start,
            tail_scale=detection.tail.scale,
            false_alarms_per_day=detection.false_alarms_per_day,
            alerts=len(judged.onsets) if judged else None,
            days=judged.days if judged else None,
        )

    def _per_channel(self, rms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Root mean square over the targets of each channel, (channels,)."""
        energy = np.bincount(self.shares_of, rms**2, len(self.names))
        level: NDArray[np.float64] = np.sqrt(energy / np.bincount(self.shares_of))
        return level


def calibrate_detection(
    manifest: Manifest,
    recordings: Sequence[Recording],
    outputs: tuple[Sequence[NDArray[np.float64]], Sequence[NDArray[np.float64]]],
    *,
    out_of_fold: NDArray[np.float64] | None,
    false_alarms_per_day: float | None,
    scorer: str,
    threshold: str,
    ranges: Ranges,
) -> Calibrated:
    """Calibrates scorer and threshold on the residuals of the quantised model.

    Residuals on data that the model was trained on are too small. Where they are known from
    models that had not seen the data, those count, plus what quantisation adds to them.

    Args:
        manifest: of the quantised model.
        recordings: what it ran over.
        outputs: of the quantised model and of the Keras model, physical units, (steps, targets)
            for each recording; NaN where there was no run.
        out_of_fold: residuals of models that had not seen these readings, (readings, targets).
        false_alarms_per_day: the budget to note; None for the default one.
        scorer: see `Detection.scorer`.
        threshold: see `Detection.threshold`.
        ranges: of the channels that have one.

    Raises:
        RecordingError: there are too few residuals.
    """
    mine = _residuals(manifest, recordings, outputs[0])
    theirs = _residuals(_with_float_inputs(manifest), recordings, outputs[1])
    if out_of_fold is None:
        warm = mine[1]
        residuals, exact = (
            np.where(warm[:, np.newaxis], rows, np.nan) for rows, _ in (mine, theirs)
        )
    else:
        residuals, exact = out_of_fold + (mine[0] - theirs[0]), out_of_fold
    compared = make_residuals(manifest)
    values = np.concatenate([recording.values for recording in recordings])
    names = [channel.name for channel in manifest.channels]
    columns = [names.index(name) for name in compared.names]
    period = manifest.sample_period * manifest.hop
    count = int(np.isfinite(residuals).any(axis=1).sum())
    budget = false_alarms_per_day or default_budget(max(count, 1), period)
    detection, scores = calibrate_with_scores(
        residuals,
        values,
        targets=[columns[k] for k in compared.shares_of],
        residuals_kind="recording" if out_of_fold is None else "out-of-fold",
        false_alarms_per_day=budget,
        scorer=scorer,
        threshold=threshold,
        limits=limits_of(values, manifest.channels, ranges),
    )
    remarks = [*anomaly_inside(residuals, scores, detection)]
    if false_alarms_per_day is not None:
        remarks += extrapolation(detection, int(np.isfinite(scores).sum()), period)
    try:
        judged = judge(scores, detection, period)
    except ConfigurationError as error:
        judged = None
        remarks.append(str(error))
    return Calibrated(
        detection=detection,
        names=compared.names,
        shares_of=compared.shares_of,
        residuals=residuals,
        float_residuals=np.where(np.isfinite(residuals), exact, np.nan),
        scores=scores,
        judged=judged,
        score_change=_change(scores, score(exact, detection)),
        remarks=tuple(remarks),
    )


def _with_float_inputs(manifest: Manifest) -> Manifest:
    """The same, but its inputs hold whatever the Keras model sees: their reach is that of the clip.

    Out-of-fold residuals have that reach, and what an int8 input cuts off is part of what
    quantisation adds to them.
    """
    ports = (replace(p, tensor=replace(p.tensor, scale=0.0)) for p in manifest.inputs)
    return replace(manifest, inputs=tuple(ports))


def _residuals(
    manifest: Manifest, recordings: Sequence[Recording], outputs: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Residuals as the device takes them, (readings, targets), and which are past the warm-up."""
    rows = np.full((sum(map(len, recordings)), len(manifest.targets)), np.nan)
    warm = np.zeros(len(rows), bool)
    compared = make_residuals(manifest)
    row = 0
    for recording, run in zip(recordings, outputs, strict=True):
        compared.reset()
        gone = False if recording.filled is None else recording.filled
        observed = np.where(gone, np.nan, recording.values).tolist()
        for seen, given, output in zip(observed, recording.values.tolist(), run, strict=True):
            found = compared.update(seen, None if np.isnan(output[0]) else output, given)
            if found is not None:
                rows[row], warm[row] = found.residual, found.warm
            row += 1
    return rows, warm


def _change(ours: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    both = np.flatnonzero(np.isfinite(ours) & np.isfinite(exact))[SETTLING:]
    return relative_change(ours[both], exact[both])
