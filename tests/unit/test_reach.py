from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgelstm.manifest import Channel, Port, TensorSpec
from edgelstm.reach import Reach, reach_of

CHANNELS = tuple(
    Channel(name, "", mean, std, None, None) for name, mean, std in (("a", 10, 2), ("b", -1, 0.5))
)


def port(dtype: str, scaling: str, clip: float | None, scale: float = 0.0, zero: int = 0) -> Port:
    return Port(CHANNELS, clip, scaling, TensorSpec("x", dtype, (1, 2), scale, zero))


class Manifest:  # the one field that reach_of looks at
    def __init__(self, *ports: Port) -> None:
        self.inputs = ports


def reach(*ports: Port) -> Reach:
    return reach_of(Manifest(*ports))  # type: ignore[arg-type]  # see there


def test_inside_the_reach_nothing_is_carried() -> None:
    ends = reach(port("float32", "graph", 8.0))
    np.testing.assert_array_equal(ends.carried(np.array([26.0, -5.0])), [0, 0])
    np.testing.assert_array_equal(ends.carried(np.array([-6.0, 3.0])), [0, 0])


def test_nine_tenths_of_what_is_beyond_are_carried() -> None:
    ends = reach(port("float32", "graph", 8.0))
    carried = ends.carried(np.array([[36.0, -1.0], [10.0, -7.0]]))
    np.testing.assert_allclose(carried, [[9.0, 0.0], [0.0, -1.8]])


def test_missing_value_carries_nothing() -> None:
    ends = reach(port("float32", "graph", 8.0))
    np.testing.assert_array_equal(ends.carried(np.array([np.nan, 4.0])), [0, 0.9])


def test_model_without_bounds_sees_everything() -> None:
    ends = reach(port("float32", "graph", None))
    np.testing.assert_array_equal(ends.carried(np.array([1e300, -1e300])), [0, 0])


@pytest.mark.parametrize(
    ("clip", "low", "high"), [(None, 10 - 2 * 2.96, 10 + 2 * 2.14), (1.0, 8.0, 12.0)]
)
def test_int8_input_ends_where_its_type_ends(clip: float | None, low: float, high: float) -> None:
    ends = reach(port("int8", "session", clip, 0.02, 20))
    assert ends.low[0] == pytest.approx(low)
    assert ends.high[0] == pytest.approx(high)


def test_int8_input_in_physical_units_has_one_range_for_all() -> None:
    ends = reach(port("int8", "graph", None, 0.5, -28))
    np.testing.assert_allclose(ends.low, [-50, -50])
    np.testing.assert_allclose(ends.high, [77.5, 77.5])


def test_inputs_follow_one_another() -> None:
    first = port("float32", "graph", 8.0)
    other = replace(first, clip=1.0)
    np.testing.assert_allclose(reach(first, other).high, [26, 3, 12, -0.5])
