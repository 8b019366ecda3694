from __future__ import annotations

import numpy as np
import pytest

from edgelstm.dashboard.columns import Columns, columns_of, pack, thin, unpack
from edgelstm.feed import SensorInfo
from edgelstm.manifest import Channel
from edgelstm.pipeline import Verdict
from edgelstm.reading import Reading

NAN = float("nan")


def sensor(compared: tuple[str, ...] = ("b",)) -> SensorInfo:
    channels = tuple(Channel(name, "", 0.0, 1.0, None) for name in "ab")
    return SensorInfo("pump", "pump.tflite", "0" * 64, channels, compared, 0.01)


def test_columns_are_channels_predictions_score_and_threshold() -> None:
    verdicts = [
        Verdict(Reading(1e9, (1.0, 2.0))),
        Verdict(Reading(1e9 + 0.01, (3.0, NAN)), np.array([5.0]), np.array([NAN]), 0.5, 4.0),
    ]
    columns = columns_of(verdicts, sensor())
    np.testing.assert_array_equal(columns.times, [1e9, 1e9 + 0.01])
    expected = [[1, 3], [2, NAN], [NAN, 5], [NAN, 0.5], [NAN, 4]]
    np.testing.assert_array_equal(columns.values, np.array(expected, np.float32))


def test_of_a_window_the_last_reading_is_taken() -> None:
    verdict = Verdict(Reading(0.0, (1.0, 2.0)), np.array([1.0, 2, 3, 4]), np.zeros(4), 1.0, 2.0)
    columns = columns_of([verdict], sensor(("a", "b")))
    assert columns.values[2:4, 0].tolist() == [3, 4]


@pytest.mark.parametrize("values", [(), (1.0, 2.0, 3.0)])
def test_a_verdict_of_other_channels_has_only_nan(values: tuple[float, ...]) -> None:
    columns = columns_of([Verdict(Reading(0.0, values))], sensor())
    assert columns.rows == 1
    assert np.isnan(columns.values).all()


def test_nothing_compared_and_nothing_at_all() -> None:
    assert columns_of([], sensor(())).values.shape == (4, 0)
    verdict = Verdict(Reading(0.0, (1.0, 2.0)), np.array([7.0]))
    assert columns_of([verdict], sensor(())).values.shape == (4, 1)


def test_what_is_beyond_float32_is_infinite_without_a_warning() -> None:
    columns = columns_of([Verdict(Reading(0.0, (1e300, 0.0)))], sensor())
    assert np.isinf(columns.values[0, 0])


def test_thinning_keeps_every_spike_in_order() -> None:
    values = np.zeros((2, 23), np.float32)
    values[0, 3], values[0, 5] = 9, -9  # up, then down
    values[1, 13], values[1, 11] = 9, -9  # down, then up
    values[0, 22] = 5  # in the rest at the end
    thinned = thin(Columns(np.arange(23.0), values), 10)
    assert thinned.times.tolist() == [0, 9, 10, 19, 20, 22]
    assert thinned.values[0].tolist() == [9, -9, 0, 0, 0, 5]
    assert thinned.values[1].tolist() == [0, 0, -9, 9, 0, 0]


def test_thinning_passes_over_what_is_missing() -> None:
    values = np.full((2, 4), np.nan, np.float32)
    values[0, 2] = 3
    thinned = thin(Columns(np.arange(4.0), values), 4)
    assert thinned.values[0].tolist() == [3, 3]
    assert np.isnan(thinned.values[1]).all()


@pytest.mark.parametrize("factor", [1, 2])
def test_few_rows_are_not_thinned(factor: int) -> None:
    columns = Columns(np.arange(9.0), np.ones((1, 9), np.float32))
    assert thin(columns, factor) is columns


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("name", ["p", "pu", "pump µ", "x" * 50])
def test_a_message_can_be_read_again_and_is_aligned(rows: int, name: str) -> None:
    columns = Columns(np.arange(rows, dtype=np.float64), np.ones((3, rows), np.float32))
    message = pack({"sensor": name, "from": 3}, columns)
    assert (len(message) - rows * (8 + 3 * 4)) % 8 == 0
    header, got = unpack(message)
    assert header == {"sensor": name, "from": 3, "rows": rows}
    np.testing.assert_array_equal(got.times, columns.times)
    if rows:
        np.testing.assert_array_equal(got.values, columns.values)
