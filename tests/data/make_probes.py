"""Makes `edgelstm/diagnosis/probes.npz`, the tiny models on which `edgelstm doctor` tries runtimes.

Bare flatbuffers with raw inputs and outputs, so they do not depend on the artifact's schema.
Run it again only when a recipe changes: python tests/data/make_probes.py [FILE]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(SOURCE_DATE_EPOCH="1767225600", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgelstm.diagnosis import probe as probes
from edgelstm.recording import Recording
from edgelstm_quantize import quantize

OUT = Path(__file__).parents[2] / "edgelstm/diagnosis/probes.npz"
STEPS = 40
UNITS = 16  # the smallest whose recurrent product int8-float does in integers
# As `edgelstm quantize` makes them for ai-edge-litert, and one as with --runtime tflite-runtime.
MODELS = {
    "float32": ("float32", "ai-edge-litert"),
    "int8": ("int8", "ai-edge-litert"),
    "int8-float": ("int8-float", "ai-edge-litert"),
    "int8-float per tensor": ("int8-float", "tflite-runtime"),
    "int8-weight": ("int8-weight", "ai-edge-litert"),
    "int16x8": ("int16x8", "ai-edge-litert"),
}


def waves(readings: int) -> Recording:
    """Two noisy sines around 0."""
    t = np.arange(readings, dtype=np.float64)
    noise = np.random.default_rng(0).normal(0, 0.1, (readings, 2))
    values = np.stack([np.sin(t / 8), np.sin(t / 5 + 1)], axis=1) + noise
    return Recording("waves", ("a", "b"), t, values, 1.0)


def network() -> keras.Model:
    """Untrained. Its weights are large, so that states move, and differ by unit, so that a runtime
    which takes one scale for all of them is far off.
    """
    rng = np.random.default_rng(1)
    x = keras.Input((None, 2))
    h = keras.layers.LSTM(UNITS, return_sequences=True)(x)
    model = keras.Model(x, keras.layers.Dense(2)(h), name="probe")
    for variable in model.weights:
        units = rng.permutation(np.linspace(0.2, 2, variable.shape[-1]))
        variable.assign(rng.normal(0, 0.3, variable.shape) * units)
    return model


def raw(x: NDArray[np.float64], tensor: Any) -> NDArray[Any]:
    """Readings, (steps, 2), as the values of an input tensor, (steps, *shape)."""
    if tensor.scale:
        limits = np.iinfo(tensor.dtype)
        x = np.clip(np.round(x / tensor.scale) + tensor.zero_point, limits.min, limits.max)
    return x.reshape(-1, *tensor.shape).astype(tensor.dtype)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    model, recording = network(), waves(900)
    arrays: dict[str, NDArray[Any]] = {}
    for name, (recipe, runtime) in MODELS.items():
        artifact = quantize(model, recording, recipe=recipe, runtime=runtime, horizon=0)
        manifest = artifact.manifest
        tensor = manifest.inputs[0].tensor
        ends = [(tensor.name, manifest.outputs[0].tensor.name)]
        pairs = [(pair.input.name, pair.output.name) for pair in manifest.states]
        x = raw(recording.values[-STEPS:], tensor)
        probe = probes.Probe(artifact.flatbuffer, tuple(ends + pairs), x, np.empty(0))
        y, _ = probes.run(Interpreter(model_content=artifact.flatbuffer, num_threads=1), probe)
        arrays[f"{name}/model"] = np.frombuffer(artifact.flatbuffer, np.uint8)
        arrays[f"{name}/wiring"] = np.array(ends + pairs)
        arrays[f"{name}/x"], arrays[f"{name}/y"] = x, y
        print(name, len(artifact.flatbuffer), manifest.runtimes, manifest.fidelity)  # noqa: T201
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    print(out, out.stat().st_size, "bytes")  # noqa: T201


if __name__ == "__main__":
    main()
