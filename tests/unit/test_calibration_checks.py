from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.artifact import Artifact
from edgelstm.calibrating import calibrate_with_scores
from edgelstm.calibration_checks import (
    anomaly_inside,
    constant_channels,
    extrapolation,
    larger_residuals,
    other_operating_point,
)
from edgelstm.manifest import Detection, Manifest

Array = NDArray[np.float64]


@pytest.fixture
def manifest(tiny: Artifact) -> Manifest:
    return tiny.manifest


def with_levels(manifest: Manifest, **changes: Any) -> Detection:
    assert manifest.detection is not None
    return dataclasses.replace(manifest.detection, **changes)


def said(residuals: Array) -> list[str]:
    detection, scores = calibrate_with_scores(
        residuals,
        residuals,
        targets=range(residuals.shape[1]),
        residuals_kind="recording",
        false_alarms_per_day=1.0,
    )
    return list(anomaly_inside(residuals, scores, detection))


# An anomaly in the calibration


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("heavy", [False, True])
def test_ordinary_residuals_are_let_be(seed: int, heavy: bool) -> None:
    rng = np.random.default_rng(seed)
    residuals = rng.standard_t(5, (2000, 3)) if heavy else rng.normal(size=(400, 8))
    residuals *= 1 + 0.5 * np.sin(np.arange(len(residuals)) / 300)[:, np.newaxis]
    assert said(residuals) == []


def test_a_wild_stretch_is_named() -> None:
    residuals = np.where(np.arange(2000).reshape(1000, 2) % 3, -1.0, 1.0)
    residuals[400:600] *= 8
    (message,) = said(residuals)
    assert "In rows 400 to 599 of the calibration" in message
    assert "the residuals are 8.0 times as large as in the rest" in message
    assert "leave these rows out with --rows" in message


def test_a_wild_score_is_named() -> None:
    residuals = np.random.default_rng(0).normal(size=(1000, 2))
    residuals[420] = 60
    (message,) = said(residuals)
    assert "At row 420 of the calibration the score rises to" in message


def test_rows_are_those_of_the_calibration_not_of_the_residuals() -> None:
    residuals = np.random.default_rng(0).normal(size=(1000, 2))
    residuals[420] = 60
    residuals[:300:2] = np.nan
    (message,) = said(residuals)
    assert "At row 420 " in message


def test_silent_residuals_say_nothing() -> None:
    assert said(np.zeros((1000, 2))) == []


def test_of_too_few_residuals_nothing_is_said(manifest: Manifest) -> None:
    residuals = np.ones((119, 2))
    residuals[60] = 1e3
    detection = with_levels(manifest, residual_scale=(1.0, 1.0))
    scores = np.where(np.arange(119) == 60, 1e6, np.arange(119.0))
    assert list(anomaly_inside(residuals, scores, detection)) == []
    more = np.concatenate([residuals, np.ones((1, 2))])
    assert list(anomaly_inside(more, np.append(scores, 1.0), detection)) != []


# Another machine


def test_another_operating_point_is_named(manifest: Manifest) -> None:
    before = with_levels(manifest, channel_mean=(20.0, -5.0), channel_std=(2.0, 0.5))
    manifest = dataclasses.replace(manifest, detection=before)
    near = with_levels(manifest, channel_mean=(25.9, -6.4))
    assert list(other_operating_point(manifest, near)) == []
    far = with_levels(manifest, channel_mean=(27.0, -5.0))
    (message,) = other_operating_point(manifest, far)
    assert "flow is at 27 on average, 3.5 of its standard deviations away from the 20" in message
    assert "another operating point" in message


def test_a_channel_that_was_constant_is_measured_by_its_spread_now(manifest: Manifest) -> None:
    before = with_levels(manifest, channel_mean=(20.0, -5.0), channel_std=(0.0, 0.5))
    manifest = dataclasses.replace(manifest, detection=before)
    same = with_levels(manifest, channel_mean=(20.0, -5.0), channel_std=(0.0, 0.5))
    assert list(other_operating_point(manifest, same)) == []
    a_little = with_levels(manifest, channel_mean=(20.2, -5.0), channel_std=(0.1, 0.5))
    assert list(other_operating_point(manifest, a_little)) == []
    moved = with_levels(manifest, channel_mean=(21.0, -5.0), channel_std=(0.1, 0.5))
    (message,) = other_operating_point(manifest, moved)
    assert "flow is at 21 on average, 1 away from the 20" in message


def test_an_artifact_without_a_detection_has_no_operating_point(manifest: Manifest) -> None:
    detection = with_levels(manifest, channel_mean=(1e6, 1e6))
    manifest = dataclasses.replace(manifest, detection=None)
    assert list(other_operating_point(manifest, detection)) == []


def test_far_larger_residuals_are_named() -> None:
    assert list(larger_residuals("ab", [1.0, 2.0], [3.0, 0.1])) == []
    (message,) = larger_residuals("ab", [1.0, 2.0], [1.0, 9.0])
    assert "The residuals of b are 4.5 times as large" in message


def test_constant_channels_are_named(manifest: Manifest) -> None:
    assert list(constant_channels(manifest, with_levels(manifest))) == []
    (message,) = constant_channels(manifest, with_levels(manifest, channel_std=(0.0, 0.5)))
    assert message.startswith("flow stayed the same all the time")
    (message,) = constant_channels(manifest, with_levels(manifest, channel_std=(0.0, 1e-12)))
    assert message.startswith("flow and level stayed the same")


def test_a_budget_far_beyond_the_calibration_says_how_far(manifest: Manifest) -> None:
    """One a day of a reading a minute: 1,440 readings; 140 can speak for ten times as many."""
    daily = with_levels(manifest, false_alarms_per_day=1.0)
    assert list(extrapolation(daily, 144, 60.0)) == []
    (message,) = extrapolation(daily, 100, 60.0)
    assert "one false alarm in 1,440 scored readings, and the calibration has 100" in message
    assert "extrapolated 14.4-fold" in message
