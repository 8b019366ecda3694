"""A recording as a virtual device sends it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgelstm.recording import Recording
from edgelstm_bridge.messages import ChannelInfo, Hello, ValueType
from edgelstm_bridge.pacing import Row
from edgelstm_bridge.virtual_firmware import MAX_CLOCK_STEP

_LARGEST_PERIOD_US = 2**32 - 1  # 71 minutes; the protocol writes a longer one as unknown


def hello_of(recording: Recording, device_id: str = "edgelstm simulate") -> Hello:
    """The hello of a device that sends this recording with its times and float32 values."""
    period_us = round(recording.sample_period * 1e6)
    steps = np.abs(np.diff(recording.timestamps))
    longest_ms = float(steps.max()) * 1e3 if len(steps) else 0.0
    return Hello(
        channels=tuple(ChannelInfo(name) for name in recording.channels),
        value_type=ValueType.FLOAT32,
        sample_period_us=period_us if period_us <= _LARGEST_PERIOD_US else 0,
        # Milliseconds, unless a gap of weeks needs longer ticks.
        clock_tick_us=1000 if longest_ms < MAX_CLOCK_STEP else 1_000_000,
        clock_epoch_ms=1,  # it has a wall clock: the device puts its own time here
        device_id=device_id,
    )


def rows_of(recording: Recording) -> Iterator[Row]:
    """The rows of a recording, as `VirtualDevice.run` takes them."""
    return zip(recording.timestamps.tolist(), recording.values.tolist(), strict=True)
