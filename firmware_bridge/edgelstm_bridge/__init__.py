"""From bytes on a serial port to readings: the wire protocol and the sources that speak it.

The protocol is in `PROTOCOL.md`. `codec`, `messages`, `decoder` and `timeline` do no I/O;
`serial_source` and `virtual_device` hold the ports.
"""

from edgelstm_bridge.codec import (
    MAX_FRAME_SIZE,
    MAX_PAYLOAD_SIZE,
    CrcError,
    decode_frame,
    encode_frame,
)
from edgelstm_bridge.decoder import Counters, FrameDecoder
from edgelstm_bridge.messages import (
    PROTOCOL_VERSION,
    ChannelInfo,
    End,
    Hello,
    Message,
    Sample,
    Start,
    Stop,
    ValueType,
    decode_message,
)
from edgelstm_bridge.serial_source import SerialSource
from edgelstm_bridge.virtual_device import RunReport, VirtualDevice

__all__ = [
    "MAX_FRAME_SIZE",
    "MAX_PAYLOAD_SIZE",
    "PROTOCOL_VERSION",
    "ChannelInfo",
    "Counters",
    "CrcError",
    "End",
    "FrameDecoder",
    "Hello",
    "Message",
    "RunReport",
    "Sample",
    "SerialSource",
    "Start",
    "Stop",
    "ValueType",
    "VirtualDevice",
    "decode_frame",
    "decode_message",
    "encode_frame",
]
