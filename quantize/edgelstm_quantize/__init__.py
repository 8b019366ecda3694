"""edgelstm_quantize: the host side. The only package that imports TensorFlow and Keras.

Importing it is cheap; TensorFlow is loaded by the first function that needs it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# oneDNN's kernels round differently from one CPU to the next, and on some refuse the small
# convolutions of a streaming model. It must be set before TensorFlow is loaded.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

if TYPE_CHECKING:
    from edgelstm_quantize.convert import quantize
    from edgelstm_quantize.training import train

__all__ = ["quantize", "train"]


def __getattr__(name: str) -> Any:
    if name == "quantize":
        from edgelstm_quantize.convert import quantize

        return quantize
    if name == "train":
        from edgelstm_quantize.training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
