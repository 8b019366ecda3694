"""edgelstm: recurrent Keras models, stepped statefully on small computers."""

from edgelstm.errors import EdgelstmError
from edgelstm.session import Session, load

__all__ = ["EdgelstmError", "Session", "__version__", "load"]
__version__ = "0.1.0"
