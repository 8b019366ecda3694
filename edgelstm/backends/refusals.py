"""Why a runtime refuses a model, in a sentence."""

from __future__ import annotations

import re

EDGE_TPU_OPERATION = "edgetpu-custom-op"


def explain(backend: str, error: Exception) -> str:
    """What to say of an interpreter's error: it writes several lines, for developers of TFLite."""
    text = str(error)
    if found := re.search(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'", text):
        return (
            f"The runtime {backend} does not know version {found[2]} of the operation {found[1]}, "
            "which this model needs: install a later release of it, or convert the model for it "
            "with --runtime."
        )
    if "builtin_code out of range" in text:
        return (
            f"The runtime {backend} does not know an operation of this model, which a later "
            "TensorFlow made: install a later release of the runtime."
        )
    if found := re.search(r"unresolved custom op: (\S+?)\.?\s", text + " "):
        if found[1] == EDGE_TPU_OPERATION:
            return (
                "This model is compiled for an Edge TPU and runs with one only: ask for it with "
                "the delegate edgetpu, or take the model that it was compiled from."
            )
        return (
            f"This model needs the custom operation {found[1]!r}, which the runtime {backend} does "
            "not have: ask for the delegate that has it."
        )
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    return f"The backend {backend} cannot run this model: {lines[0] if lines else type(error)}."
