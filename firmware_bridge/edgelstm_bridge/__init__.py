"""From a microcontroller's bytes to timed readings.

`open_source` opens whatever sends readings. The wire protocol is in `PROTOCOL.md`; what decodes it
(`codec`, `messages`, `decoder`), the text `formats`, the clocks (`clock`, `timeline`) and the
`receiver`s over them do no I/O. `links` hold the ports, `source` the thread that reads one.
"""

from edgelstm_bridge.codec import (
    MAX_FRAME_SIZE,
    MAX_PAYLOAD_SIZE,
    CrcError,
    decode_frame,
    encode_frame,
)
from edgelstm_bridge.decoder import Counters, FrameDecoder
from edgelstm_bridge.events import (
    Connected,
    Disconnected,
    Ended,
    Event,
    Gap,
    Log,
    Restarted,
    Silence,
)
from edgelstm_bridge.faults import Faults
from edgelstm_bridge.formats import Format, FormatError, TextDecoder
from edgelstm_bridge.link_source import LinkSource
from edgelstm_bridge.messages import PROTOCOL_VERSION, ChannelInfo, Hello, Sample, ValueType
from edgelstm_bridge.polled_source import PolledSource
from edgelstm_bridge.rate import RateMismatch, RateMonitor
from edgelstm_bridge.receiver import SourceCounters
from edgelstm_bridge.resampling import Resampler
from edgelstm_bridge.source import FakeSource, Source
from edgelstm_bridge.sources import open_source
from edgelstm_bridge.virtual_device import RunReport, VirtualDevice
from edgelstm_bridge.virtual_text import VirtualTextDevice

__all__ = [
    "MAX_FRAME_SIZE",
    "MAX_PAYLOAD_SIZE",
    "PROTOCOL_VERSION",
    "ChannelInfo",
    "Connected",
    "Counters",
    "CrcError",
    "Disconnected",
    "Ended",
    "Event",
    "FakeSource",
    "Faults",
    "Format",
    "FormatError",
    "FrameDecoder",
    "Gap",
    "Hello",
    "LinkSource",
    "Log",
    "PolledSource",
    "RateMismatch",
    "RateMonitor",
    "Resampler",
    "Restarted",
    "RunReport",
    "Sample",
    "Silence",
    "Source",
    "SourceCounters",
    "TextDecoder",
    "ValueType",
    "VirtualDevice",
    "VirtualTextDevice",
    "decode_frame",
    "encode_frame",
    "open_source",
]
