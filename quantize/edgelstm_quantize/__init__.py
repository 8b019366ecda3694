"""edgelstm_quantize: the host side. The only package that imports TensorFlow and Keras.

Importing it is cheap; TensorFlow is loaded by the first function that needs it.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# oneDNN's kernels round differently from one CPU to the next, and on some refuse the small
# convolutions of a streaming model. It must be set before TensorFlow is loaded.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

if TYPE_CHECKING:
    from edgelstm_quantize.convert import Conversion, convert, quantize
    from edgelstm_quantize.training import train

__all__ = ["Conversion", "convert", "quantize", "train"]


_HOMES = {
    "Conversion": "edgelstm_quantize.convert",
    "convert": "edgelstm_quantize.convert",
    "quantize": "edgelstm_quantize.convert",
    "train": "edgelstm_quantize.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
