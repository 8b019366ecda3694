"""Text formats: lines as microcontrollers print them, told apart and turned into rows. No I/O."""

from edgelstm_bridge.formats.decoder import TextDecoder
from edgelstm_bridge.formats.detection import MIN_LINES, detect
from edgelstm_bridge.formats.errors import FormatError, TooFewLinesError
from edgelstm_bridge.formats.format import Format
from edgelstm_bridge.formats.lines import MAX_LINE_SIZE
from edgelstm_bridge.formats.rows import Note, Row, TextCounters

__all__ = [
    "MAX_LINE_SIZE",
    "MIN_LINES",
    "Format",
    "FormatError",
    "Note",
    "Row",
    "TextCounters",
    "TextDecoder",
    "TooFewLinesError",
    "detect",
]
