from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Channel, Port, TensorSpec
from edgelstm.scaling import InputScaling, OutputScaling

INT8 = TensorSpec("x", "int8", (1, 1), scale=0.5, zero_point=10)
FLOAT32 = TensorSpec("x", "float32", (1, 1), scale=0.0, zero_point=0)
INT32 = TensorSpec("x", "int32", (1,), scale=0.0, zero_point=0)
PLAIN = Channel("flow", "l/min", mean=0.0, std=1.0, tokens=None)
FLOW = Channel("flow", "l/min", mean=20.0, std=4.0, tokens=None)


def port(
    *channels: Channel,
    tensor: TensorSpec = INT8,
    clip: float | None = None,
    scaling: str = "session",
) -> Port:
    return Port(channels, clip, scaling, tensor)


def scale_in(
    x: float,
    channel: Channel = PLAIN,
    tensor: TensorSpec = INT8,
    clip: float | None = None,
    scaling: str = "session",
) -> float:
    raw = InputScaling(port(channel, tensor=tensor, clip=clip, scaling=scaling))(np.array([x]))
    assert raw.dtype == tensor.dtype
    return float(raw[0])


@pytest.mark.parametrize(
    ("x", "raw"), [(0, 10), (0.25, 10), (0.5, 11), (0.75, 12), (-0.25, 10), (-0.75, 8)]
)
def test_integer_rounds_half_to_even(x: float, raw: int) -> None:
    assert scale_in(x) == raw


@pytest.mark.parametrize(
    ("x", "raw"),
    [
        (58.5, 127),
        (59, 127),
        (1e9, 127),
        (1e300, 127),
        (1.7e308, 127),  # beyond what a double holds once it is scaled
        (-69, -128),
        (-70, -128),
        (-1e9, -128),
        (-1.7e308, -128),
    ],
)
def test_integer_saturates(x: float, raw: int) -> None:
    assert scale_in(x) == raw


@pytest.mark.parametrize(("x", "raw"), [(1e9, 32767), (1e300, 32767), (-1e9, -32768)])
def test_wider_integer_saturates_at_its_own_limits(x: float, raw: int) -> None:
    assert scale_in(x, tensor=TensorSpec("x", "int16", (1, 1), 1e-3, 0)) == raw


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


@pytest.mark.parametrize(("x", "z"), [(1e39, 1e9), (-3e38, -1e9), (20 + 4e5, 1e5)])
def test_float_input_is_bounded_at_a_billion_standard_deviations(x: float, z: float) -> None:
    assert scale_in(x, FLOW, FLOAT32) == z


# A graph that scales itself


@pytest.mark.parametrize("x", [20, 24, 0, -3.5, 1e5, 20 - 3.9e9])
def test_physical_units_pass_to_a_graph_that_scales_itself(x: float) -> None:
    assert scale_in(x, FLOW, FLOAT32, scaling="graph") == np.float32(x)


@pytest.mark.parametrize(
    ("x", "raw"), [(1e38, 20 + 4e9), (-1e38, 20 - 4e9), (1e300, 20 + 4e9), (5e9, 20 + 4e9)]
)
def test_a_graph_that_scales_itself_gets_a_billion_standard_deviations_at_most(
    x: float, raw: float
) -> None:
    assert scale_in(x, FLOW, FLOAT32, scaling="graph") == np.float32(raw)


def test_each_channel_of_a_graph_that_scales_itself_has_its_own_bound() -> None:
    scaling = InputScaling(port(FLOW, PLAIN, tensor=FLOAT32, scaling="graph"))
    assert scaling(np.array([1e38, 1e38])).tolist() == [np.float32(20 + 4e9), 1e9]


def plain(*channels: Channel, tensor: TensorSpec = FLOAT32, scaling: str = "graph") -> float:
    return InputScaling(port(*channels, tensor=tensor, scaling=scaling)).plain


def test_below_a_bound_raw_values_are_the_values_themselves() -> None:
    assert plain(PLAIN) == 1e9
    assert plain(FLOW) == 4e9 - 20  # the nearer side
    assert plain(FLOW, PLAIN) == 1e9  # the narrower channel
    scaling = InputScaling(port(FLOW, PLAIN, tensor=FLOAT32, scaling="graph"))
    for x in (0.999e9, -0.999e9, 0.1, -1e-30):
        assert scaling(np.array([x, x])).tolist() == [np.float32(x)] * 2
    # An offset that is larger than the spread leaves no such bound.
    far = Channel("far", "", mean=1e12, std=1.0, tokens=None)
    assert plain(far) <= 0


@pytest.mark.parametrize(
    ("tensor", "scaling"), [(INT8, "session"), (INT8, "graph"), (FLOAT32, "session")]
)
def test_values_that_are_scaled_have_no_such_bound(tensor: TensorSpec, scaling: str) -> None:
    assert plain(FLOW, tensor=tensor, scaling=scaling) == 0
    output = OutputScaling(port(FLOW, tensor=tensor, scaling=scaling))
    assert not output.plain


def test_tokens_have_no_such_bound() -> None:
    assert tokens(5).plain == 0


def test_output_of_a_graph_that_scales_itself_is_as_it_is() -> None:
    scaling = OutputScaling(port(FLOW, tensor=FLOAT32, scaling="graph"))
    assert scaling.plain
    y = scaling(np.array([-0.5], np.float32))
    assert y.dtype == np.float64
    assert y.tolist() == [-0.5]
    assert scaling.unit.tolist() == [1]


# Several channels


def test_each_channel_has_its_own_scaling() -> None:
    scaling = InputScaling(port(FLOW, PLAIN))
    assert scaling(np.array([24.0, 1.0])).tolist() == [12, 12]
    assert scaling(np.array([[24.0, 1.0], [20.0, 5.0]])).tolist() == [[12, 12], [10, 20]]


@pytest.mark.parametrize("tensor", [INT8, FLOAT32], ids=["int8", "float32"])
@pytest.mark.parametrize("scaling", ["session", "graph"])
def test_scaling_leaves_its_input_alone(tensor: TensorSpec, scaling: str) -> None:
    x = np.array([1e38])
    InputScaling(port(FLOW, tensor=tensor, scaling=scaling))(x)
    assert x.tolist() == [1e38]


def test_output_in_physical_units() -> None:
    scaling = OutputScaling(port(FLOW, PLAIN))
    y = scaling(np.array([12, 127], np.int8))
    assert y.dtype == np.float64
    assert y.tolist() == [24, 58.5]
    assert scaling.unit.tolist() == [2, 0.5]


def test_float_output_in_physical_units() -> None:
    scaling = OutputScaling(port(FLOW, tensor=FLOAT32))
    assert scaling(np.array([-0.5], np.float32)).tolist() == [18]


# Tokens


def tokens(*counts: int) -> InputScaling:
    return InputScaling(port(*(Channel("word", "", 0.0, 1.0, n) for n in counts), tensor=INT32))


@pytest.mark.parametrize("token", [0, 1, 4, -0.0])
def test_tokens_pass_as_whole_numbers(token: float) -> None:
    raw = tokens(5)(np.array([token]))
    assert raw.dtype == np.int32
    assert raw.tolist() == [token]


@pytest.mark.parametrize("token", [5, 99, 2.0**31, 2.0**32, 1e300, -1, -1e300, 0.5, 4.999, 1e-9])
def test_what_is_no_token_is_refused(token: float) -> None:
    with pytest.raises(ConfigurationError) as caught:
        tokens(5)(np.array([token]))
    assert str(caught.value) == (
        f"A reading has the tokens [{token!r}]; this model knows whole numbers from 0 to 4."
    )


def test_each_channel_has_its_own_tokens() -> None:
    assert tokens(5, 9)(np.array([4.0, 8.0])).tolist() == [4, 8]
    for bad in ([5.0, 8.0], [4.0, 9.0]):
        with pytest.raises(ConfigurationError, match="whole numbers"):
            tokens(5, 9)(np.array(bad))


# For any scaling

_scales = st.floats(1e-4, 1e3)
_zero_points = st.integers(-128, 127)
_channels = st.builds(
    Channel,
    st.just("a"),
    st.just(""),
    mean=st.floats(-1e3, 1e3),
    std=st.floats(1e-2, 1e3),
    tokens=st.none(),
)


@settings(deadline=None, max_examples=100)
@given(_channels, _scales, _zero_points)
def test_raw_values_survive_both_ways(channel: Channel, scale: float, zero_point: int) -> None:
    both = port(channel, tensor=TensorSpec("x", "int8", (1, 1), scale, zero_point))
    raw: NDArray[np.int8] = np.arange(-128, 128).astype(np.int8)[:, None]
    assert np.array_equal(InputScaling(both)(OutputScaling(both)(raw)), raw)


@settings(deadline=None, max_examples=100)
@given(_channels, _scales, _zero_points, st.floats(-1, 1))
def test_input_is_off_by_half_a_unit_at_most(
    channel: Channel, scale: float, zero_point: int, share: float
) -> None:
    both = port(channel, tensor=TensorSpec("x", "int8", (1, 1), scale, zero_point))
    output = OutputScaling(both)
    low, high = output(np.array([[-128], [127]], np.int8)).ravel()
    x = np.array([(low + high) / 2 + share * (high - low) / 2])  # within the range
    error = np.abs(output(InputScaling(both)(x)) - x)
    assert error[0] <= 0.5 * output.unit[0] * (1 + 1e-6) + 1e-9


@settings(deadline=None, max_examples=100)
@given(_channels, st.sampled_from(["session", "graph"]), st.floats(-1e300, 1e300))
def test_float_input_is_finite_whatever_comes(channel: Channel, scaling: str, x: float) -> None:
    assert np.isfinite(scale_in(x, channel, FLOAT32, scaling=scaling))
