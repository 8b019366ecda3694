from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgelstm.errors import CalibrationWarning, RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize.calibration_data import as_recordings, check_length
from edgelstm_quantize.limits import FEW_STEPS, MIN_STEPS

ONE = {"x": 3}
SINGLE = {"x": 1}
TWO = {"vibration": 2, "load": 1}


def numbers(*shape: int, start: float = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(shape)


def recording(channels: str, steps: int = 5, source: str = "pump.csv") -> Recording:
    """With channels named by single letters, each holding ten times its letter's place."""
    values = [[10.0 * (ord(letter) - ord("a")) for letter in channels]] * steps
    return Recording(
        source, tuple(channels), np.arange(steps, dtype=np.float64) * 60, np.array(values), 60.0
    )


def refusal(data: Any, inputs: dict[str, int]) -> str:
    with pytest.raises(RecordingError) as caught:
        as_recordings(data, inputs=inputs)
    return str(caught.value)


# What is taken


def test_array_of_one_recording() -> None:
    (only,) = as_recordings(numbers(5, 3), inputs=ONE)
    assert only.values.tolist() == numbers(5, 3).tolist()
    assert only.values.dtype == np.float64
    assert only.channels == ("channel_0", "channel_1", "channel_2")
    assert only.timestamps.tolist() == [0, 1, 2, 3, 4]
    assert only.sample_period == 1
    assert only.source == "array"


def test_array_of_a_single_channel() -> None:
    (only,) = as_recordings(numbers(5), inputs=SINGLE)
    assert only.values.tolist() == [[0], [1], [2], [3], [4]]
    assert only.channels == ("channel_0",)


def test_array_of_windows() -> None:
    windows = as_recordings(numbers(4, 5, 3), inputs=ONE)
    assert [w.values.tolist() for w in windows] == numbers(4, 5, 3).tolist()
    assert [w.source for w in windows] == ["window 0", "window 1", "window 2", "window 3"]
    assert all(w.timestamps[0] == 0 for w in windows)


def test_windows_may_differ_in_length() -> None:
    windows = as_recordings([numbers(5, 3), numbers(2, 3)], inputs=ONE)
    assert [len(w) for w in windows] == [5, 2]


def test_windows_of_a_single_channel() -> None:
    windows = as_recordings((numbers(5), numbers(2, 1)), inputs=SINGLE)
    assert [w.values.shape for w in windows] == [(5, 1), (2, 1)]


def test_generator_is_gone_through_once_and_may_reuse_its_array() -> None:
    asked = 0

    def windows() -> Iterator[np.ndarray[Any, Any]]:
        nonlocal asked
        buffer = np.empty((5, 3))
        for k in range(4):
            asked += 1
            buffer[:] = k
            yield buffer

    found = as_recordings(windows(), inputs=ONE)
    assert asked == 4
    assert [w.values[0, 0] for w in found] == [0, 1, 2, 3]


def test_arrays_are_copied() -> None:
    data = numbers(2, 5, 3).astype(np.float64)
    before = data.tolist()
    found = as_recordings(data, inputs=ONE)
    data[:] = 0
    assert [w.values.tolist() for w in found] == before


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint16, np.bool_])
def test_any_numeric_dtype(dtype: Any) -> None:
    (only,) = as_recordings(np.ones((5, 3), dtype), inputs=ONE)
    assert only.values.tolist() == np.ones((5, 3)).tolist()


def test_whatever_has_an_array_counts_as_one() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return numbers(5, 3)

        def __iter__(self) -> Iterator[str]:  # as a data frame goes through its columns' names
            return iter(["a", "b", "c"])

    (only,) = as_recordings(Tensor(), inputs=ONE)  # type: ignore[arg-type]
    assert only.values.tolist() == numbers(5, 3).tolist()


def test_mapping_is_joined_in_the_models_order() -> None:
    data = {"load": numbers(5, 1, start=100), "vibration": numbers(5, 2)}
    (only,) = as_recordings(data, inputs=TWO)
    assert only.channels == ("vibration_0", "vibration_1", "load_0")
    assert only.values[:2].tolist() == [[0, 1, 100], [2, 3, 101]]
    (turned,) = as_recordings(data, inputs={"load": 1, "vibration": 2})
    assert turned.channels == ("load_0", "vibration_0", "vibration_1")
    assert turned.values[:2].tolist() == [[100, 0, 1], [101, 2, 3]]


def test_mapping_of_windows() -> None:
    data = {"load": numbers(4, 5, 1, start=100), "vibration": numbers(4, 5, 2)}
    found = as_recordings(data, inputs=TWO)
    assert len(found) == 4
    assert found[1].values[0].tolist() == [10, 11, 105]


def test_mapping_with_a_series_for_a_single_channel() -> None:
    data = {"load": numbers(5, start=100), "vibration": numbers(5, 2)}
    assert as_recordings(data, inputs=TWO)[0].values[1].tolist() == [2, 3, 101]


def test_mapping_for_one_input() -> None:
    (only,) = as_recordings({"x": numbers(5, 3)}, inputs=ONE)
    assert only.channels == ("channel_0", "channel_1", "channel_2")


def test_array_for_several_inputs_has_their_channels_side_by_side() -> None:
    (only,) = as_recordings(numbers(5, 3), inputs=TWO)
    assert only.channels == ("vibration_0", "vibration_1", "load_0")
    assert only.values.tolist() == numbers(5, 3).tolist()


def test_recording_keeps_its_own() -> None:
    (only,) = as_recordings(recording("abc"), inputs=ONE)
    assert only.channels == ("a", "b", "c")
    assert only.source == "pump.csv"
    assert only.sample_period == 60
    assert only.timestamps[1] == 60


@pytest.mark.parametrize("several", [list, tuple, iter])
def test_several_recordings_have_their_channels_in_the_order_of_the_first(several: Any) -> None:
    found = as_recordings(several([recording("bca"), recording("abc", 2)]), inputs=ONE)
    assert [r.channels for r in found] == [("b", "c", "a")] * 2
    assert [r.values[0].tolist() for r in found] == [[10, 20, 0]] * 2
    assert [len(r) for r in found] == [5, 2]


@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int32]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_array_is_taken_whole_or_refused(data: Any) -> None:
    try:
        found = as_recordings(data, inputs=ONE)
    except RecordingError:
        fits = data.ndim in (2, 3) and data.size and data.shape[-1] == 3
        assert not fits or not np.isfinite(data).all()
        return
    assert data.ndim in (2, 3)
    assert np.concatenate([r.values for r in found]).tolist() == data.reshape(-1, 3).tolist()
    assert all(len(r) == data.shape[-2] for r in found)


# What is refused


@pytest.mark.parametrize("shape", [(), (5,), (5, 2), (2, 5, 4), (1, 2, 5, 3)])
def test_array_of_another_shape(shape: tuple[int, ...]) -> None:
    assert refusal(np.zeros(shape), ONE) == (
        f"array, input 'x': the shape is {shape}, but (steps, 3) or (windows, steps, 3) is "
        "expected."
    )


@pytest.mark.parametrize("shape", [(), (3,), (5, 2), (2, 5, 3)])
def test_window_of_another_shape(shape: tuple[int, ...]) -> None:
    message = refusal([numbers(5, 3), np.zeros(shape)], ONE)
    assert message == f"window 1, input 'x': the shape is {shape}, but (steps, 3) is expected."


def test_input_of_another_shape() -> None:
    message = refusal({"vibration": numbers(5, 2), "load": numbers(5, 2)}, TWO)
    assert "array, input 'load': the shape is (5, 2), but (steps, 1) or" in message


def test_array_of_another_shape_for_several_inputs() -> None:
    assert "array, inputs 'vibration', 'load': the shape is (5, 2)" in refusal(numbers(5, 2), TWO)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_array_without_steps(shape: tuple[int, ...]) -> None:
    assert "array, input 'x': there are no steps" in refusal(np.zeros(shape), ONE)


def test_window_without_steps() -> None:
    assert "window 1, input 'x': there are no steps" in refusal(
        [numbers(5, 3), np.zeros((0, 3))], ONE
    )


@pytest.mark.parametrize(
    "data", [[], (), iter([]), np.zeros((0, 5, 3)), {"x": np.zeros((0, 5, 3))}]
)
def test_no_recordings(data: Any) -> None:
    assert "is empty: there is no recording in it" in refusal(data, ONE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite(bad: float) -> None:
    data = numbers(30, 3)
    data[17, 1] = data[18, 0] = bad
    message = refusal(data, ONE)
    assert f"array, input 'x', row 17 (counted from 0), channel 'channel_1': {bad} is" in message
    for windows in ([numbers(5, 3), data], iter([numbers(5, 3), data])):
        assert "window 1, input 'x', row 17 (counted from 0)" in refusal(windows, ONE)
    stack = np.stack([numbers(30, 3), numbers(30, 3), data])
    assert "window 2, input 'x', row 17 (counted from 0)" in refusal(stack, ONE)


def test_value_that_is_not_finite_in_one_of_several_inputs() -> None:
    load = numbers(5, 1)
    load[3] = np.nan
    message = refusal({"vibration": numbers(5, 2), "load": load}, TWO)
    assert "array, input 'load', row 3 (counted from 0), channel 'load_0': nan is" in message


def test_recording_with_a_value_that_is_not_finite() -> None:
    bad = recording("abc")
    bad.values[4, 2] = np.nan
    assert "pump.csv, row 4 (counted from 0), channel 'c': nan is" in refusal(bad, ONE)
    message = refusal([recording("abc"), bad], ONE)
    assert "recording 1 (pump.csv), row 4 (counted from 0), channel 'c': nan is" in message


@pytest.mark.parametrize(
    "values",
    [
        np.full((5, 3), "1"),
        np.full((5, 3), None),
        np.full((5, 3), 1.0, object),
        np.full((5, 3), 1j),
        np.zeros((5, 3), "datetime64[s]"),
        np.zeros((5, 3), "V2"),
    ],
)
def test_values_that_are_no_numbers(values: Any) -> None:
    expected = f"holds values of type {values.dtype}, not numbers"
    assert f"array, input 'x' {expected}" in refusal(values, ONE)
    assert f"window 1, input 'x' {expected}" in refusal([numbers(5, 3), values], ONE)
    mapping = {"vibration": numbers(5, 2), "load": values}
    assert f"array, input 'load' {expected}" in refusal(mapping, TWO)


def test_ragged_window() -> None:
    assert "window 0, input 'x' is no array of numbers" in refusal([[[1, 2, 3], [4]]], ONE)


@pytest.mark.parametrize("names", [["vibration"], ["vibration", "laod"], ["x", *TWO]])
def test_mapping_with_other_inputs(names: list[str]) -> None:
    message = refusal({name: numbers(5, TWO.get(name, 1)) for name in names}, TWO)
    assert ", ".join(map(repr, names)) in message
    assert "but the model has inputs 'vibration', 'load'" in message


@pytest.mark.parametrize(
    ("vibration", "load", "ours", "theirs"),
    [
        ((5, 2), (4, 1), "5 steps", "4 steps"),
        ((2, 5, 2), (2, 4, 1), "2 windows of 5 steps", "2 windows of 4 steps"),
        ((2, 5, 2), (3, 5, 1), "2 windows of 5 steps", "3 windows of 5 steps"),
        ((2, 5, 2), (10, 1), "2 windows of 5 steps", "10 steps"),
    ],
)
def test_inputs_of_different_lengths(
    vibration: tuple[int, ...], load: tuple[int, ...], ours: str, theirs: str
) -> None:
    message = refusal({"vibration": np.zeros(vibration), "load": np.zeros(load)}, TWO)
    assert f"The input 'load' has {theirs}, but 'vibration' has {ours}" in message


@pytest.mark.parametrize("channels", ["ab", "abcd"])
def test_recording_with_another_number_of_channels(channels: str) -> None:
    message = refusal(recording(channels), ONE)
    assert f"pump.csv has {len(channels)} channels ({', '.join(channels)})" in message
    assert "the model takes 3 (input 'x')" in message
    assert "recording 1 (pump.csv) has" in refusal([recording("abc"), recording(channels)], ONE)


def test_recordings_with_different_channels() -> None:
    message = refusal([recording("abc", source="a.csv"), recording("abd", source="b.csv")], ONE)
    assert "a.csv has a, b, c, but b.csv has a, b, d" in message


def test_recording_beside_an_array() -> None:
    message = refusal([recording("abc"), numbers(5, 3)], ONE)
    assert "pump.csv has a, b, c, but window 1 has channel_0, channel_1, channel_2" in message


def test_recording_with_two_channels_of_one_name() -> None:
    assert "two channels of one name: a, a, b" in refusal(recording("aab"), ONE)


def test_recording_without_steps() -> None:
    empty = Recording("pump.csv", ("a", "b", "c"), np.zeros(0), np.zeros((0, 3)), 1.0)
    assert "pump.csv has values of the shape (0, 3)" in refusal(empty, ONE)


@pytest.mark.parametrize("data", ["pump.csv", b"pump.csv", None, 5, lambda: iter([])])
def test_what_is_no_calibration_data(data: Any) -> None:
    message = refusal(data, ONE)
    assert f"this is of type {type(data).__name__}" in message
    assert "read_recording" in message


# Its length


def test_enough_steps() -> None:
    assert check_length([Recording.from_array(np.zeros(FEW_STEPS))]) == []
    assert check_length([Recording.from_array(np.zeros(FEW_STEPS // 4))] * 4) == []


@pytest.mark.parametrize("steps", [MIN_STEPS, 120, FEW_STEPS - 1])
def test_few_steps_are_warned_of(steps: int) -> None:
    sentences = check_length([Recording.from_array(np.zeros(steps))])
    assert sentences == [
        f"The calibration has {steps} steps; with fewer than 200 the ranges of a recurrent model "
        "are not known well: record for longer."
    ]
    with pytest.warns(UserWarning, match=re.escape(sentences[0])):
        warnings.warn(sentences[0], CalibrationWarning, stacklevel=1)


def test_steps_of_several_recordings_add_up() -> None:
    (sentence,) = check_length([Recording.from_array(np.zeros(30))] * 4)
    assert "has 120 steps" in sentence


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_steps(count: int) -> None:
    parts = [Recording.from_array(np.zeros((MIN_STEPS - 1) // count))] * count
    with pytest.raises(RecordingError, match="has 39 steps; it needs at least 40, and better 200"):
        check_length(parts)


def test_no_tensorflow_is_loaded() -> None:
    code = (
        "import sys, edgelstm_quantize.calibration_data; "
        "sys.exit(bool({'tensorflow', 'keras', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
