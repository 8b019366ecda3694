"""A process of its own that shows what a start costs: run by `footprint.measure_footprint`.

It is run as a script, not as a module, so that nothing of edgelstm is loaded unless it loads it.
Prints the seconds from its first statement to its first result and its resident memory after some
more steps, in bytes; each kind does what it is named for and no more.
"""

from __future__ import annotations

import time

_START = time.perf_counter()

import sys  # noqa: E402  # the clock first

_STEPS = 1000


def main(kind: str, path: str, backend: str, module: str) -> None:
    """Does one kind of start.

    Args:
        kind: "runtime": numpy and the runtime are imported; "bare": an interpreter is built and
            run as well; "session": edgelstm loads the artifact and steps it.
        path: of the artifact; of the model in it, for the bare runtime.
        backend: the name of the backend.
        module: the module of the backend's `Interpreter`.
    """
    import warnings

    warnings.simplefilter("ignore")  # TensorFlow announces its interpreter's removal
    if kind == "session":
        import edgelstm

        session = edgelstm.load(path, backend=backend)
        x = next(iter(session.artifact.golden.x.astype(float)), None)
        if x is None:  # a plain model has no golden vectors
            x = [channel.mean for channel in session.artifact.manifest.channels]
        session.step(x)
        took = time.perf_counter() - _START
        for _ in range(_STEPS):
            session.step(x)
    else:
        import importlib

        import numpy as np

        interpreter_class = importlib.import_module(module).Interpreter
        if kind == "runtime":
            took = time.perf_counter() - _START
        else:
            interpreter = interpreter_class(model_path=path, num_threads=1)
            interpreter.allocate_tensors()
            for tensor in interpreter.get_input_details():
                interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]))
            interpreter.invoke()
            took = time.perf_counter() - _START
            for _ in range(_STEPS):
                interpreter.invoke()
    print(took, _resident())  # noqa: T201  # the answer


def _resident() -> int:
    """Bytes of this process in memory; where the system does not say, the most there ever were."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123  # pathlib would be in the figure
            pages = int(file.read().split()[1])
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    import os

    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(*sys.argv[1:])
