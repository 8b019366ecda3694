"""Runs a job in a process of its own: TensorFlow may crash, and the caller gets a sentence.

What TensorFlow prints goes into a log file, which is kept and named when the job dies.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from edgelstm.errors import ConversionError, EdgelstmError, MissingDependencyError
from edgelstm_quantize.progress import Progress, silent

T = TypeVar("T")
_PATIENCE = 10  # seconds that a process with its work done may take to end
_NEEDED = ("tensorflow", "keras", "ai_edge_quantizer")


def run_isolated(
    job: Callable[..., T],
    *arguments: Any,
    on_progress: Progress = silent,
    **options: Any,
) -> T:
    """Calls `job(*arguments, on_progress=..., **options)` in a fresh process.

    Args:
        job: a function of a module that can be imported without TensorFlow.
        arguments: must be picklable, as must what the job returns.
        on_progress: called here with what the job reports.
        options: keyword arguments of the job.

    Raises:
        MissingDependencyError: the extra `quantize` is not installed.
        ConversionError: the process crashed, or an unexpected error ended it.
        EdgelstmError: whatever the job raised itself.
    """
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"This needs {package}; run: pip install 'edgelstm[quantize]'"
            )
    descriptor, name = tempfile.mkstemp(prefix="edgelstm-", suffix=".log")
    os.close(descriptor)
    log = Path(name)
    # "fork" would copy the caller's threads and locks in an unknown state.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, log, job, arguments, options))
    process.start()
    sender.close()
    keep_log = False
    try:
        with contextlib.suppress(EOFError):
            while True:
                kind, value = receiver.recv()
                if kind == "progress":
                    on_progress(*value)
                elif kind == "result":
                    result: T = value
                    process.join(_PATIENCE)  # let it tidy up behind itself
                    return result
                elif kind == "error":
                    raise value
                else:
                    keep_log = True
                    raise ConversionError(f"Unexpected: {value}. The details are in {log}.")
        process.join()
        keep_log = True
        raise ConversionError(f"TensorFlow {_how_it_died(process.exitcode)}; see {log}.")
    finally:
        process.kill()  # does nothing to a process that is through
        process.join()
        process.close()
        receiver.close()
        if not keep_log:
            log.unlink()


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended without an answer (exit code {code})"


def _child(
    sender: Connection,
    log: Path,
    job: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever backend the user trains with: only TensorFlow converts to TFLite.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    descriptor = os.open(log, os.O_WRONLY | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)

    def report(stage: str, done: int, total: int) -> None:
        sender.send(("progress", (stage, done, total)))

    try:
        answer = ("result", job(*arguments, on_progress=report, **options))
    except (EdgelstmError, OSError) as error:
        answer = ("error", error)
    except Exception as error:
        traceback.print_exc()
        answer = ("unexpected", f"{type(error).__name__}: {error}")
    with contextlib.suppress(BrokenPipeError):
        sender.send(answer)
