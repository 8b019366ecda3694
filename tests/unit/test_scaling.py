from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.manifest import Channel, TensorSpec
from edgelstm.scaling import InputScaling, OutputScaling

INT8 = TensorSpec("x", "int8", (1, 1, 1), scale=0.5, zero_point=10)
FLOAT32 = TensorSpec("x", "float32", (1, 1, 1), scale=0.0, zero_point=0)
PLAIN = Channel("flow", "l/min", mean=0.0, std=1.0)
FLOW = Channel("flow", "l/min", mean=20.0, std=4.0)


def scale_in(
    x: float, channel: Channel = PLAIN, tensor: TensorSpec = INT8, clip: float | None = None
) -> float:
    raw = InputScaling([channel], clip, tensor)(np.array([x]))
    assert raw.dtype == tensor.dtype
    return float(raw[0])


@pytest.mark.parametrize(
    ("x", "raw"), [(0, 10), (0.25, 10), (0.5, 11), (0.75, 12), (-0.25, 10), (-0.75, 8)]
)
def test_integer_rounds_half_to_even(x: float, raw: int) -> None:
    assert scale_in(x) == raw


@pytest.mark.parametrize(
    ("x", "raw"),
    [(58.5, 127), (59, 127), (1e9, 127), (1e300, 127), (-69, -128), (-70, -128), (-1e9, -128)],
)
def test_integer_saturates(x: float, raw: int) -> None:
    assert scale_in(x) == raw


@pytest.mark.parametrize(("x", "raw"), [(20, 10), (24, 12), (16, 8), (18, 9)])
def test_input_is_normalised(x: float, raw: int) -> None:
    assert scale_in(x, FLOW) == raw


@pytest.mark.parametrize(("x", "z"), [(20, 0), (24, 1), (0, -5), (21, 0.25)])
def test_float_input_is_normalised_only(x: float, z: float) -> None:
    assert scale_in(x, FLOW, FLOAT32) == z


@pytest.mark.parametrize("tensor", [INT8, FLOAT32], ids=["int8", "float32"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_clip_bounds_the_normalised_input(tensor: TensorSpec, sign: int) -> None:
    at_the_bound = scale_in(20 + sign * 8, FLOW, tensor)  # z = 2
    assert scale_in(20 + sign * 8, FLOW, tensor, clip=2.0) == at_the_bound
    assert scale_in(20 + sign * 99, FLOW, tensor, clip=2.0) == at_the_bound
    assert scale_in(20 + sign * 3, FLOW, tensor, clip=2.0) == scale_in(20 + sign * 3, FLOW, tensor)


def test_float_input_is_finite_whatever_comes() -> None:
    assert np.isfinite(scale_in(1e39, PLAIN, FLOAT32))
    assert np.isfinite(scale_in(-3e38, Channel("flow", "", 0.0, 0.01), FLOAT32))


def test_each_channel_has_its_own_scaling() -> None:
    scaling = InputScaling([FLOW, PLAIN], None, INT8)
    assert scaling(np.array([24.0, 1.0])).tolist() == [12, 12]
    assert scaling(np.array([[24.0, 1.0], [20.0, 5.0]])).tolist() == [[12, 12], [10, 20]]


def test_scaling_leaves_its_input_alone() -> None:
    x = np.array([24.0])
    InputScaling([FLOW], None, INT8)(x)
    assert x.tolist() == [24]


def test_output_in_physical_units() -> None:
    scaling = OutputScaling([FLOW, PLAIN], INT8)
    y = scaling(np.array([12, 127], np.int8))
    assert y.dtype == np.float64
    assert y.tolist() == [24, 58.5]
    assert scaling.unit.tolist() == [2, 0.5]


def test_float_output_in_physical_units() -> None:
    scaling = OutputScaling([FLOW], FLOAT32)
    assert scaling(np.array([-0.5], np.float32)).tolist() == [18]


_scales = st.floats(1e-4, 1e3)
_zero_points = st.integers(-128, 127)
_channels = st.builds(
    Channel, st.just("a"), st.just(""), mean=st.floats(-1e3, 1e3), std=st.floats(1e-2, 1e3)
)


@settings(deadline=None, max_examples=100)
@given(_channels, _scales, _zero_points)
def test_raw_values_survive_both_ways(channel: Channel, scale: float, zero_point: int) -> None:
    tensor = TensorSpec("x", "int8", (1, 1, 1), scale, zero_point)
    raw: NDArray[np.int8] = np.arange(-128, 128).astype(np.int8)[:, None]
    there_and_back = InputScaling([channel], None, tensor)(OutputScaling([channel], tensor)(raw))
    assert np.array_equal(there_and_back, raw)


@settings(deadline=None, max_examples=100)
@given(_channels, _scales, _zero_points, st.floats(-1, 1))
def test_input_is_off_by_half_a_unit_at_most(
    channel: Channel, scale: float, zero_point: int, share: float
) -> None:
    tensor = TensorSpec("x", "int8", (1, 1, 1), scale, zero_point)
    output = OutputScaling([channel], tensor)
    low, high = output(np.array([[-128], [127]], np.int8)).ravel()
    x = np.array([(low + high) / 2 + share * (high - low) / 2])  # within the range
    error = np.abs(output(InputScaling([channel], None, tensor)(x)) - x)
    assert error[0] <= 0.5 * output.unit[0] * (1 + 1e-6) + 1e-9
