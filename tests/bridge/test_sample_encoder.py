import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.hello import MAX_CHANNELS, ChannelInfo, Hello, ValueType
from edgelstm_bridge.messages import Sample
from edgelstm_bridge.sample_encoder import SampleEncoder


def hello_of(channels: int, value_type: ValueType, scale: float) -> Hello:
    return Hello(tuple(ChannelInfo(f"c{i}", scale=scale) for i in range(channels)), value_type)


@given(
    # 61 channels of float32 are the most that fit into one COBS block.
    st.sampled_from([1, 2, 8, 60, 61, 62, MAX_CHANNELS]),
    st.sampled_from(ValueType),
    st.sampled_from([1.0, 0.5]),
    st.integers(0, 2**17),
    st.integers(-(2**33), 2**33),
    st.data(),
)
def test_the_frames_are_those_of_the_codec(
    channels: int,
    value_type: ValueType,
    scale: float,
    number: int,
    clock: int,
    data: st.DataObject,
) -> None:
    hello = hello_of(channels, value_type, scale)
    values = data.draw(
        st.lists(st.sampled_from([0.0, 1.0, -2.5, 1e-9]), min_size=channels, max_size=channels)
    )
    expected = encode_frame(Sample(number, clock, tuple(values)).encode(hello))
    assert SampleEncoder(hello).encode(number, clock, values) == expected


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_cannot_be_carried_is_refused(scale: float) -> None:
    encoder = SampleEncoder(hello_of(2, ValueType.FLOAT32, scale))
    assert encoder.encode(0, 0, (math.nan, math.inf))
    with pytest.raises(ProtocolError, match="3 values from a device with 2 channels"):
        encoder.encode(0, 0, (1.0, 2.0, 3.0))
    with pytest.raises(ProtocolError, match="does not fit float32"):
        encoder.encode(0, 0, (1.0, 1e39))
