"""Tries one TFLite runtime, in a process of its own: it may crash or hang.

`python -m edgelstm.diagnosis.probe BACKEND STAGE...` writes one line of JSON per event, a list:
`["try", stage]` before each stage, `["done", stage, result, detail]` after it, so that a process
that dies has named the stage it died in. The stages are `import`, then what was asked for: a probe,
or `file:PATH` for an artifact. The results are right, wrong and refused.

A probe is a tiny step graph in one recipe, in `probes.npz` beside this module, with raw inputs and
the raw outputs that ai-edge-litert gave for them (made by `tests/data/make_probes.py`). It runs on
the runtime's own interpreter, so it tells about the runtime and not about edgelstm.
"""

from __future__ import annotations

import importlib
import json
import operator
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgelstm
from edgelstm.errors import EdgelstmError

IMPORT = "import"
FILE = "file:"
# Backend -> module and attribute of the interpreter.
_INTERPRETERS = {
    "litert": ("ai_edge_litert.interpreter", "Interpreter"),
    "tflite-runtime": ("tflite_runtime.interpreter", "Interpreter"),
    "tensorflow": ("tensorflow", "lite.Interpreter"),
}

# Kernels round differently, in these probes by 0.8 % at most (tflite-runtime 2.14 in int8, x86-64
# and emulated aarch64 alike). What is looked for is far off: a runtime that takes one scale for a
# kernel that has many, by 23 %.
LARGEST_ERROR = 0.05


@dataclass(frozen=True)
class Probe:
    """A step graph and what it must give.

    Attributes:
        model: the TFLite model, with the signature "step".
        wiring: names in that signature, (1 + states, 2): input and output, then each state in and
            out.
        x: raw inputs, (steps, *shape of the input).
        y: raw outputs from zero states, (steps, targets).
    """

    model: bytes
    wiring: tuple[tuple[str, str], ...]
    x: NDArray[Any]
    y: NDArray[Any]


def read_probes() -> dict[str, Probe]:
    """The probes that the package carries, by name."""
    with np.load(Path(__file__).with_name("probes.npz"), allow_pickle=False) as arrays:
        names = dict.fromkeys(key.rpartition("/")[0] for key in arrays)
        return {
            name: Probe(
                arrays[f"{name}/model"].tobytes(),
                tuple((str(a), str(b)) for a, b in arrays[f"{name}/wiring"]),
                arrays[f"{name}/x"],
                arrays[f"{name}/y"],
            )
            for name in names
        }


def run(interpreter: Any, probe: Probe) -> tuple[NDArray[Any], int]:
    """Steps a probe from zero states.

    Returns:
        The raw outputs, (steps, targets), and the zero point of the output.
    """
    step = interpreter.get_signature_runner("step")
    (x_name, y_name), *pairs = probe.wiring
    details = step.get_input_details()
    states = {
        name: np.full(d["shape"], d["quantization"][1], d["dtype"])
        for name, d in ((name, details[name]) for name, _ in pairs)
    }
    outputs = []
    for x in probe.x:
        given = step(**{x_name: x}, **states)
        states = {name: given[output] for name, output in pairs}
        outputs.append(given[y_name].reshape(-1))
    return np.stack(outputs), int(step.get_output_details()[y_name]["quantization"][1])


def relative_error(y: NDArray[Any], expected: NDArray[Any], zero_point: int) -> float:
    """Mean |y - expected| over the rms of what was expected; the scales cancel out."""
    difference = np.abs(y.astype(np.float64) - expected)
    return float(
        difference.mean() / np.sqrt(np.mean((expected.astype(np.float64) - zero_point) ** 2))
    )


def _try_import(backend: str) -> tuple[str, str]:
    _interpreter(backend)
    package = sys.modules[_INTERPRETERS[backend][0].partition(".")[0]]
    return "right", str(getattr(package, "__version__", ""))


def _try_probe(backend: str, probe: Probe) -> tuple[str, str]:
    interpreter = _interpreter(backend)(model_content=probe.model, num_threads=1)
    y, zero_point = run(interpreter, probe)
    error = relative_error(y, probe.y, zero_point)
    if error <= LARGEST_ERROR:  # NaN is not
        return "right", ""
    return "wrong", f"off by {error:.0%} of the output"


def _try_file(backend: str, path: str) -> tuple[str, str]:
    try:
        with edgelstm.load(path, backend=backend) as session:
            manifest, broken = session.artifact.manifest, session.verify()
            if manifest.plain:
                session.step([channel.mean for channel in manifest.channels])
    except EdgelstmError as error:
        return "refused", str(error)
    if broken is None:
        return "right", "it has no golden vectors" if manifest.plain else "its golden vectors hold"
    return "wrong", f"its golden vectors fail at run {broken}"


def main() -> None:
    """Tries the backend of `sys.argv` on the stages named there; ends at a failed import."""
    backend, *stages = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a runtime prints must not stand between the events.
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def attempt(stage: str, work: Callable[[], tuple[str, str]]) -> str:
        events.write(json.dumps(["try", stage]) + "\n")
        events.flush()
        try:
            result, detail = work()
        except BaseException as error:  # whatever a broken package raises, SystemExit too
            result, detail = "refused", _sentence(error)
        events.write(json.dumps(["done", stage, result, detail]) + "\n")
        events.flush()
        return result

    if attempt(IMPORT, lambda: _try_import(backend)) != "right":
        return
    probes = read_probes()
    for stage in stages:
        if stage.startswith(FILE):
            attempt(stage, partial(_try_file, backend, stage.removeprefix(FILE)))
        else:
            attempt(stage, partial(_try_probe, backend, probes[stage]))


def _interpreter(backend: str) -> Any:
    module, attribute = _INTERPRETERS[backend]
    return operator.attrgetter(attribute)(importlib.import_module(module))


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind


if __name__ == "__main__":
    main()
