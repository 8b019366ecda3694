"""What a training sees of recordings: filled, cut, and told."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize.training_data import MOST_CATEGORIES, TrainingData, prepare
from edgelstm_quantize.training_remarks import few_readings, worse_than_linear

NAN = np.nan
START = 1_704_067_200.0  # 2024-01-01 00:00:00 UTC


def noise(rows: int, channels: int = 2, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 1, (rows, channels))


def recording(
    values: NDArray[np.float64],
    names: Sequence[str] = ("flow", "level"),
    *,
    period: float = 10.0,
    source: str = "pump.csv",
) -> Recording:
    times = START + np.arange(len(values), dtype=np.float64) * period
    return Recording(source, tuple(names), times, values, period)


def refusal(*recordings: Recording, **options: object) -> str:
    with pytest.raises(RecordingError) as caught:
        prepare(recordings, **options)  # type: ignore[arg-type]
    assert not re.search(r"\. [A-Z]", str(caught.value)), "one sentence"
    return str(caught.value)


def remarks(data: TrainingData) -> str:
    return "\n".join(data.remarks)


def test_one_whole_recording() -> None:
    values = noise(100)
    data = prepare([recording(values)])
    assert data.channels == data.targets == ("flow", "level")
    np.testing.assert_array_equal(data.values, values)
    assert data.known.all()
    assert data.segments == ((0, 100),)
    assert data.sample_period == 10
    assert data.remarks == ()
    assert len(data) == 100


def test_no_tensorflow_is_loaded() -> None:
    code = (
        "import sys, edgelstm_quantize.training_data; "
        "sys.exit(bool({'tensorflow', 'keras', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Missing values


def test_missing_values_are_filled_with_the_last_good_one_and_marked() -> None:
    values = noise(100)
    values[[0, 1, 50, 51, 99], 0] = NAN
    values[50, 1] = NAN
    data = prepare([recording(values)])
    assert data.values[:2, 0].tolist() == [values[2, 0]] * 2  # nothing before: the next
    assert data.values[50:52, 0].tolist() == [values[49, 0]] * 2
    assert data.values[99, 0] == values[98, 0]
    assert data.values[50, 1] == values[49, 1]
    np.testing.assert_array_equal(data.known, np.isfinite(values))
    assert data.segments == ((0, 100),)
    assert "6 missing values are filled with the last good one (flow 5, level 1)" in remarks(data)


def test_a_long_hole_in_one_channel_is_filled() -> None:
    values = noise(200)
    values[50:150, 0] = NAN
    data = prepare([recording(values)])
    assert data.segments == ((0, 200),)
    assert (data.values[50:150, 0] == values[49, 0]).all()
    assert not data.known[50:150, 0].any()


@pytest.mark.parametrize(("hole", "cut"), [(10, False), (11, True)])
def test_a_hole_in_all_channels_is_filled_or_cut_out(hole: int, cut: bool) -> None:
    values = noise(200)
    values[60 : 60 + hole] = NAN
    data = prepare([recording(values)])
    if not cut:
        assert data.segments == ((0, 200),)
        return
    assert data.segments == ((0, 60), (60, 200 - hole))
    np.testing.assert_array_equal(data.values, np.delete(values, np.s_[60 : 60 + hole], axis=0))
    assert f"{hole} readings without any value are left out" in remarks(data)
    assert "cut into 2 stretches" in remarks(data)


def test_a_channel_without_any_value() -> None:
    values = noise(100)
    values[:, 1] = NAN
    assert "the channel 'level' has no value in any of its 100 rows" in refusal(recording(values))


def test_an_infinite_value() -> None:
    values = noise(100)
    values[30, 1] = -np.inf
    message = refusal(recording(values).rows(10, None))
    assert "pump.csv, row 30 (counted from 0), channel 'level': a value is infinite" in message


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_missing_the_rest_stays_as_it_is(data: st.DataObject) -> None:
    rows = data.draw(st.integers(40, 120))
    values = noise(rows, 3, seed=rows)
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, rows - 1))
        length = data.draw(st.integers(1, 30))
        columns = data.draw(st.sampled_from([[0], [1, 2], [0, 1, 2]]))
        values[start : start + length, columns] = NAN
    given = recording(values, "abc")
    if data.draw(st.booleans()):
        gap = data.draw(st.integers(1, rows - 1))
        given.timestamps[gap:] += 1000
    try:
        found = prepare([given])
    except RecordingError:
        return
    edges = [edge for segment in found.segments for edge in segment]
    assert edges[0] == 0
    assert edges[-1] == len(found)
    assert edges[1:-1:2] == edges[2::2]
    assert all(b - a >= 32 for a, b in found.segments)
    assert np.isfinite(found.values).all()
    # Row by row, what is known is what was there, in the same order.
    rows_left = iter(values)
    for row, known in zip(found.values, found.known, strict=True):
        assert any(np.array_equal(np.where(known, row, NAN), r, equal_nan=True) for r in rows_left)


# Gaps and order in time


@pytest.mark.parametrize(("step", "cut"), [(100.0, False), (101.0, True)])
def test_a_recording_is_cut_at_long_gaps(step: float, cut: bool) -> None:
    given = recording(noise(100))
    given.timestamps[40:] += step - 10
    assert prepare([given]).segments == (((0, 40), (40, 100)) if cut else ((0, 100),))


def test_short_stretches_are_left_out() -> None:
    given = recording(noise(200))
    given.timestamps[31:] += 1000
    given.timestamps[131:] += 1000
    data = prepare([given])
    assert data.segments == ((0, 100), (100, 169))
    np.testing.assert_array_equal(data.values, given.values[31:])
    assert "1 of its stretches (31 readings) are shorter than 32 readings" in remarks(data)


def test_nothing_but_short_stretches() -> None:
    message = refusal(recording(noise(31)))
    assert "the longest stretch without a gap has 31 readings" in message
    assert "at least 32" in message


def test_time_that_goes_back() -> None:
    given = recording(noise(100))
    given.timestamps[50:] -= 3600
    assert "pump.csv, row 50 (counted from 0): the time goes back" in refusal(given)


def test_uneven_readings_are_said() -> None:
    given = recording(noise(200))
    given.timestamps[:] += np.random.default_rng(1).choice([0, 10], 200).cumsum()
    assert "not evenly" in remarks(prepare([given]))
    assert "--resample" in remarks(prepare([given]))


# Several recordings


def test_recordings_follow_one_another_with_their_channels_by_name() -> None:
    a, b = noise(50), noise(60, seed=1)
    data = prepare([recording(a), recording(b[:, ::-1], ("level", "flow"), source="b.csv")])
    np.testing.assert_array_equal(data.values, np.concatenate([a, b]))
    assert data.segments == ((0, 50), (50, 110))


def test_recordings_with_different_channels() -> None:
    message = refusal(recording(noise(50)), recording(noise(50), ("flow", "x"), source="b.csv"))
    assert "pump.csv has flow, level, but b.csv has flow, x" in message
    assert "--columns" in message


def test_recordings_with_different_periods() -> None:
    slow = recording(noise(50), period=11.5, source="slow.csv")
    message = refusal(recording(noise(50)), slow)
    assert "pump.csv has a reading every 10 s, but slow.csv one every 11.5 s" in message
    assert "--resample 11.5" in message
    nearly = recording(noise(50), period=10.9)
    assert prepare([recording(noise(50)), nearly]).sample_period == pytest.approx(10.45)


def test_no_recording() -> None:
    assert "no recording" in refusal()


# Targets and categories


def test_targets_are_in_the_order_of_the_channels() -> None:
    given = recording(noise(100, 3), ("a", "b", "c"))
    assert prepare([given], targets=["c", "a"]).targets == ("a", "c")


def test_categories_are_inputs_only() -> None:
    values = noise(100, 3)
    values[:, 1] = np.arange(100) % 3 * 5
    data = prepare([recording(values, ("a", "mode", "c"))], categorical=["mode"])
    assert data.targets == ("a", "c")
    assert data.categories == {"mode": (0.0, 5.0, 10.0)}
    assert data.texts == {}
    np.testing.assert_array_equal(data.values, values)


def with_modes(texts: Sequence[str], codes: Sequence[float], source: str) -> Recording:
    values = noise(len(codes))
    values[:, 1] = codes
    given = recording(values, ("flow", "mode"), source=source)
    return replace(given, categories={"mode": tuple(texts)}) if texts else given


def test_recordings_agree_on_the_codes_of_texts() -> None:
    a = with_modes(["idle", "wash"], [0, 1] * 30, "a.csv")
    b = with_modes(["boil", "wash"], [0, 1] * 30, "b.csv")
    data = prepare([a, b])
    assert data.texts == {"mode": ("boil", "idle", "wash")}
    assert data.categories == {"mode": (0.0, 1.0, 2.0)}
    assert data.values[:2, 1].tolist() == [1, 2]
    assert data.values[60:62, 1].tolist() == [0, 2]
    assert data.targets == ("flow",)


def test_numbers_in_one_recording_are_texts_in_another() -> None:
    numbers = with_modes([], [1, 2] * 30, "a.csv")
    data = prepare([numbers, with_modes(["2", "off"], [0, 1] * 30, "b.csv")])
    assert data.texts == {"mode": ("1", "2", "off")}
    assert data.values[:2, 1].tolist() == [0, 1]
    assert data.values[60:62, 1].tolist() == [1, 2]


def test_known_texts_keep_their_codes() -> None:
    """Of an artifact: also where a recording does not hold all of them."""
    given = with_modes(["z", "idle", "wash"], [1, 2] * 30, "a.csv")
    assert prepare([given]).texts == {"mode": ("z", "idle", "wash")}
    assert prepare([given]).categories == {"mode": (1.0, 2.0)}


def test_missing_categories_are_filled() -> None:
    data = prepare([with_modes(["idle", "wash"], [1, NAN, 0, 1] * 20, "a.csv")])
    assert data.values[:4, 1].tolist() == [1, 1, 0, 1]
    assert not data.known[1, 1]


@pytest.mark.parametrize("option", ["targets", "categorical"])
def test_unknown_channel(option: str) -> None:
    message = refusal(recording(noise(100)), **{option: ["presure"]})
    assert "pump.csv has no channel 'presure'; it has flow, level" in message


def test_too_many_categories() -> None:
    values = noise(300)
    values[:, 1] = np.arange(300)
    message = refusal(recording(values), categorical=["level"])
    assert f"'level' has 300 different values, and at most {MOST_CATEGORIES}" in message


def test_category_that_is_no_whole_number() -> None:
    assert "a whole number" in refusal(recording(noise(100)), categorical=["level"])


def test_categorical_target() -> None:
    given = with_modes(["idle", "wash"], [1, 0] * 40, "a.csv")
    assert "'mode' is categorical, so it cannot be a target" in refusal(given, targets=["mode"])
    only = given.with_channels(["mode"])
    assert "no channel to forecast" in refusal(only)


# Constant channels, labels and switches


def test_constant_channel_is_said() -> None:
    values = noise(100, 3)
    values[:, 1] = 7
    assert "b never changes here" in remarks(prepare([recording(values, "abc")]))


def test_all_channels_constant() -> None:
    message = refusal(recording(np.full((100, 2), 3.0)))
    assert "no channel ever changes, so there is nothing to learn" in message


@pytest.mark.parametrize("name", ["anomaly", "Label", "is_anomaly", "changepoint", "TARGET"])
def test_a_label_among_the_channels(name: str) -> None:
    values = noise(100, 3)
    values[:, 2] = 0
    values[70:80, 2] = 1
    said = remarks(prepare([recording(values, ("flow", "level", name))]))
    assert f"{name} looks like labels, not like sensors" in said
    assert "--columns 'flow,level'" in said


def test_a_sensor_that_is_called_target_is_none() -> None:
    assert prepare([recording(noise(100), ("flow", "target"))]).remarks == ()


def test_a_switch_among_the_targets() -> None:
    values = noise(100)
    values[:, 1] = np.arange(100) // 7 % 2
    data = prepare([recording(values, ("flow", "valve"))])
    assert "valve is only ever 0 or 1" in remarks(data)
    assert "--target" in remarks(data)
    assert prepare([recording(values, ("flow", "valve"))], targets=["flow"]).remarks == ()


# What hardly belongs into a recording of normal operation


def ordinary(kind: str, rows: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, np.newaxis]
    e = rng.normal(0, 1, (rows, 4))
    if kind == "ar":
        for i in range(1, rows):
            e[i] += 0.95 * e[i - 1]
    elif kind == "drift":
        e = e.cumsum(axis=0)
    elif kind == "daily":
        e += 10 * np.sin(t / 25 + np.arange(4))
    elif kind == "heavy tails":
        e = rng.standard_t(2, (rows, 4))
    elif kind == "spikes":
        e[rng.integers(0, rows, rows // 60)] += 30
    elif kind == "commands":
        e[:, 0] = np.repeat(rng.integers(0, 2, rows // 50 + 1), 50)[:rows]
        e += 5 * e[:, :1]
    return e + 50


@pytest.mark.parametrize("rows", [400, 3000])
@pytest.mark.parametrize(
    "kind", ["noise", "ar", "drift", "daily", "heavy tails", "spikes", "commands"]
)
def test_ordinary_recordings_are_not_remarked_on(kind: str, rows: int) -> None:
    said = [
        remark
        for seed in range(10)
        for remark in prepare([recording(ordinary(kind, rows, seed), "abcd")]).remarks
        if "only ever 0 or 1" not in remark
    ]
    assert len(said) <= (kind == "drift")  # a random walk, which goes anywhere now and then


@pytest.mark.parametrize("place", [0, 100, 210, 360])
def test_a_noisy_stretch_is_remarked_on_with_its_rows(place: int) -> None:
    values = ordinary("ar", 400, 3)
    values[place : place + 40, 2] += np.random.default_rng(1).normal(0, 20, 40)
    (said,) = prepare([recording(values, "abcd").rows(0, None)]).remarks
    found = re.search(r"pump.csv, rows (\d+):(\d+) \(2024-01-01 .*\): c moves far more", said)
    assert found
    start, stop = map(int, found.groups())
    assert abs(start - place) <= 25
    assert abs(stop - place - 40) <= 25
    assert f"--rows :{start}" in said or f"--rows {stop}:" in said


def test_rows_are_not_proposed_where_they_are_none_of_the_file() -> None:
    values = ordinary("noise", 900, 3)
    values[700:760, 1] += 15
    (said,) = prepare([replace(recording(values, "abcd"), resampled=True)]).remarks
    assert said.endswith("if that is no normal operation, train on other rows.")


def test_a_stretch_at_another_level_is_remarked_on_in_rows_of_the_file() -> None:
    values = ordinary("noise", 900, 3)
    values[700:760, 1] += 15
    (said,) = prepare([recording(values, "abcd").rows(500, None)]).remarks
    assert "rows 700:7" in said
    assert "b is far from where it is in the rest" in said


def test_another_level_after_a_gap_is_remarked_on() -> None:
    values = ordinary("noise", 400, 3)
    values[150:, 3] += 12
    given = recording(values, "abcd")
    assert prepare([given]).remarks == ()  # a step that lasts may well be normal
    given.timestamps[150:] += 500
    said = remarks(prepare([given]))
    assert re.search(r"after the gap before row 150 \(.*\), d is at another level \(61", said)
    assert "--rows :150 or --rows 150:" in said


def test_a_model_that_does_worse_than_a_linear_one_is_remarked_on() -> None:
    assert worse_than_linear("lstm", 0.41, 0.40) is None
    assert "--model hybrid" in (worse_than_linear("lstm", 0.43, 0.40) or "")
    assert "a forecaster" in (worse_than_linear("autoencoder", 0.43, 0.40) or "")


def test_few_readings_are_remarked_on() -> None:
    assert few_readings(300) == ()
    (remark,) = few_readings(299)
    assert "299 readings tell little" in remark
    assert "record 300 or more" in remark
