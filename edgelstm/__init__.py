"""edgelstm: recurrent Keras models, stepped statefully on small computers."""

from edgelstm.errors import EdgelstmError
from edgelstm.loading import load
from edgelstm.session import Session
from edgelstm.state import State
from edgelstm.streams import Streams

__all__ = ["EdgelstmError", "Session", "State", "Streams", "__version__", "load"]
__version__ = "0.1.0"
