"""A job in a process of its own: what it gives, and what becomes of it when it dies."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import (
    ConversionError,
    EdgelstmError,
    MissingDependencyError,
    RecordingError,
)
from edgelstm_quantize.isolated import run_isolated


def _add(a: int, b: int, *, on_progress: Any) -> int:
    on_progress("adding", 1, 2)
    os.write(1, b"noise on standard output")
    return a + b


def _crash(*, on_progress: Any) -> None:
    os.write(2, b"last words")
    os.kill(os.getpid(), signal.SIGSEGV)


def _refuse(*, on_progress: Any) -> None:
    raise RecordingError("This recording is too short.")


def _stumble(*, on_progress: Any) -> None:
    raise KeyError("surprise")


def _leave(*, on_progress: Any) -> None:
    os._exit(3)


def _announce_and_sleep(path: Path, *, on_progress: Any) -> None:
    path.write_text(str(os.getpid()))
    on_progress("sleeping", 0, 1)
    time.sleep(60)


def _log_named_in(message: str) -> Path:
    found = re.search(r"(/\S+\.log)", message)
    assert found
    return Path(found.group(1))


def test_a_job_gives_its_result_and_its_progress(capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[str, int, int]] = []
    assert run_isolated(_add, 2, 3, on_progress=lambda *report: heard.append(report)) == 5
    assert heard == [("adding", 1, 2)]
    assert capfd.readouterr() == ("", "")


def test_a_crash_becomes_a_sentence_and_the_log_is_kept() -> None:
    with pytest.raises(ConversionError, match="SIGSEGV") as error:
        run_isolated(_crash)
    log = _log_named_in(str(error.value))
    assert "last words" in log.read_text()
    log.unlink()


def test_an_error_of_the_job_comes_through_as_it_is() -> None:
    with pytest.raises(RecordingError, match="too short"):
        run_isolated(_refuse)


def test_an_unexpected_error_is_named_and_its_traceback_is_in_the_log() -> None:
    with pytest.raises(ConversionError, match="KeyError: 'surprise'") as error:
        run_isolated(_stumble)
    log = _log_named_in(str(error.value))
    assert "_stumble" in log.read_text()
    log.unlink()


def test_a_job_that_leaves_without_an_answer_is_noticed() -> None:
    with pytest.raises(ConversionError, match="exit code 3") as error:
        run_isolated(_leave)
    _log_named_in(str(error.value)).unlink()


def test_an_interrupt_ends_the_process_as_well(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_isolated(_announce_and_sleep, file, on_progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)


def test_without_the_extra_the_pip_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == "tensorflow" else sys.modules[__name__].__spec__

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[quantize\]'"):
        run_isolated(_add, 2, 3)


def test_every_error_can_be_raised_without_tensorflow() -> None:
    # An error that comes back from the other process is built here, from the module it is of.
    importlib.import_module("edgelstm_quantize.convert")
    importlib.import_module("edgelstm_quantize.training")
    classes: list[type[EdgelstmError]] = [EdgelstmError]
    found: set[type[EdgelstmError]] = set()
    while classes:
        found.add(cls := classes.pop())
        classes += cls.__subclasses__()
    assert len(found) > 10
    assert not {cls for cls in found if cls.__module__.startswith("edgelstm_quantize")}
