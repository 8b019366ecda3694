"""The TFLite runtimes: which are installed, and what each of them computes correctly.

Every runtime is tried in a process of its own (`probe.py`), because it may crash or hang.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgelstm.diagnosis.finding import Finding, Level, pip, pip_install
from edgelstm.diagnosis.software import version_of

SECTION = "runtimes"
PROBES = ("int8", "int8-float", "int8-weight", "int16x8", "float32", "int8-float per tensor")
"""In `probes.npz`: a step graph in each recipe, and one as `--runtime tflite-runtime` makes it."""
PER_TENSOR = "int8-float per tensor"
# The stages of probe.py, which is not imported here: it is a program of its own.
IMPORT, FILE = "import", "file:"
EXIT = "exit"  # after the last stage

_QUIET_S = 2.0  # what is through by then needs no progress line
_NOISE = re.compile(r"^(INFO|WARNING|W\d{4}|I\d{4})\b|^\s*$")

Result = Literal["right", "wrong", "refused", "crashed", "hung"]


@dataclass(frozen=True)
class Runtime:
    """A package that can run TFLite files.

    Attributes:
        backend: the name that edgelstm has for it.
        title: the package as users know it.
        module: what Python imports.
        distributions: the names under which it is installed.
    """

    backend: str
    title: str
    module: str
    distributions: tuple[str, ...]


RUNTIMES = (
    Runtime(
        "litert", "ai-edge-litert", "ai_edge_litert", ("ai-edge-litert", "ai-edge-litert-nightly")
    ),
    Runtime(
        "tflite-runtime",
        "tflite-runtime",
        "tflite_runtime",
        ("tflite-runtime", "tflite-runtime-nightly"),
    ),
    Runtime(
        "tensorflow",
        "tensorflow",
        "tensorflow",
        ("tensorflow", "tensorflow-cpu", "tensorflow-aarch64", "tf-nightly"),
    ),
)
"""In the order in which edgelstm takes them."""


@dataclass(frozen=True)
class Trial:
    """What became of one stage of `probe.py`.

    Attributes:
        stage: `IMPORT`, a probe, `FILE` and a path, or `EXIT`.
        result: right, or how it failed.
        detail: why; of a successful import the version, of a file that runs what that says.
    """

    stage: str
    result: Result
    detail: str


@dataclass(frozen=True)
class Examined:
    """A runtime and what is known of it on this machine.

    Attributes:
        runtime: which.
        installed: whether Python would find it.
        version: of what is installed; None where that is not known.
        trials: what was tried; nothing was where it is empty.
    """

    runtime: Runtime
    installed: bool
    version: str | None
    trials: tuple[Trial, ...] = ()

    @property
    def started(self) -> bool:
        """Whether it could be imported."""
        return any(t.stage == IMPORT and t.result == "right" for t in self.trials)

    @property
    def probes(self) -> tuple[Trial, ...]:
        """The trials of probes."""
        return tuple(t for t in self.trials if t.stage in PROBES)

    @property
    def works(self) -> bool:
        """Whether it computes anything correctly."""
        return any(t.result == "right" for t in self.probes)


def find(runtime: Runtime) -> Examined:
    """Looks whether a runtime is installed, without importing it."""
    return Examined(
        runtime,
        importlib.util.find_spec(runtime.module) is not None,
        version_of(*runtime.distributions),
    )


def examine(
    found: Examined, stages: Sequence[str], timeout: float, on_slow: Callable[[], None]
) -> Examined:
    """Tries an installed runtime. A stage that kills its process is left out in the next one.

    Args:
        found: from `find`.
        stages: probes and files to try.
        timeout: seconds that a process may take.
        on_slow: called when it takes longer than usual.
    """
    trials: list[Trial] = []
    left = list(stages)
    while True:
        new = _try(found.runtime.backend, left, timeout, on_slow)
        trials = [t for t in trials if t.stage != IMPORT] + new
        last = new[-1]
        if last.result not in ("crashed", "hung") or last.stage not in left:
            break
        left = left[left.index(last.stage) + 1 :]
        if last.result == "hung" or not left:
            break
    imported = next((t.detail for t in trials if t.stage == IMPORT and t.result == "right"), "")
    return replace(found, trials=tuple(trials), version=found.version or imported or None)


def _try(
    backend: str, stages: Sequence[str], timeout: float, on_slow: Callable[[], None]
) -> list[Trial]:
    """The trials of one process; the last is the one it died in, if it did."""
    # The child finds what this process finds, wherever that was started from.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    command = [sys.executable, "-P", "-m", "edgelstm.diagnosis.probe", backend, *stages]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what it started can be ended with it
    )
    hung = False
    try:
        try:
            out, err = process.communicate(timeout=min(_QUIET_S, timeout))
        except subprocess.TimeoutExpired:
            on_slow()
            try:
                out, err = process.communicate(timeout=max(timeout - _QUIET_S, 0.1))
            except subprocess.TimeoutExpired:
                hung = True
                _kill(process)
                out, err = process.communicate()
    finally:
        _kill(process)
        process.wait()
    return _trials(out, err, process.returncode, timeout if hung else None)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _trials(out: str, err: str, code: int, hung_after: float | None) -> list[Trial]:
    trials, trying = [], IMPORT
    for line in out.splitlines():
        try:
            kind, stage, *rest = json.loads(line)
        except ValueError:  # half a line of a process that was ended
            break
        if kind == "try":
            trying = stage
        else:
            trials.append(Trial(stage, *rest))
            trying = EXIT
    if hung_after is not None:
        trials.append(Trial(trying, "hung", f"no answer within {hung_after:g} s"))
    elif code:
        trials.append(Trial(trying, "crashed", _how_it_died(code, err)))
    return trials


def _how_it_died(code: int, err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if not _NOISE.match(line)]
    said = f": {lines[-1]}" if lines else ""
    if code > 0:
        return f"exit code {code}{said}"
    name = signal.Signals(-code).name
    if name == "SIGILL":
        return f"{name}: this processor lacks an instruction that it was built for"
    return f"{name}{said}"


def unfit(examined: Examined, numpy: str) -> bool:
    """Whether a runtime cannot work with the numpy that is installed."""
    return (
        examined.installed
        and examined.runtime.backend == "tflite-runtime"
        and int(numpy.partition(".")[0]) >= 2
    )


def runtimes(
    examined: Sequence[Examined],
    numpy: str,
    architecture: str,
    bits: int,
    python: tuple[int, int],
) -> list[Finding]:
    """What the examination of all runtimes says.

    Args:
        examined: in the order in which edgelstm takes them.
        numpy: the version that is installed.
        architecture: as `uname -m` prints it.
        bits: of this Python, 32 or 64.
        python: its version.
    """
    working = next((e for e in examined if e.works), None)
    findings = [_runtime(e, working, numpy) for e in examined]
    data = {"backend": working.runtime.backend if working else None}
    if working:
        what = f"edgelstm takes {working.runtime.title} unless told otherwise"
        findings.append(Finding(SECTION, "default", "ok", what, data=data))
    elif any(f.level == "problem" for f in findings):
        what = "no runtime works until one of these is mended."
        findings.append(Finding(SECTION, "default", "note", what, data=data))
    else:
        what = "no TFLite runtime is installed for this Python."
        mend = install_command(architecture, bits, python)
        findings.append(Finding(SECTION, "default", "problem", what, mend, data))
    return findings


def _runtime(examined: Examined, working: Examined | None, numpy: str) -> Finding:
    title, version = examined.runtime.title, examined.version
    data = {
        "backend": examined.runtime.backend,
        "installed": examined.installed,
        "version": version,
        "works": examined.works if examined.trials else None,
        "recipes": {t.stage: t.result for t in examined.probes if t.stage != PER_TENSOR},
    }

    def finding(level: Level, what: str, mend: str = "") -> Finding:
        return Finding(SECTION, title, level, what, mend, data)

    distribution = examined.runtime.distributions[0]
    if not examined.installed:
        if version:
            what = f"{version} is said to be installed, but its files are gone."
            return finding(
                "note" if working else "problem",
                what,
                pip_install("--force-reinstall", "--no-deps", distribution),
            )
        return finding("ok", "not installed" + ("; not needed" if working else ""))
    shown = version or "of unknown version"
    worse: Level = "note" if working else "problem"
    if unfit(examined, numpy):
        what = f"{shown} needs numpy 1, and numpy {numpy} is installed."
        return finding(worse, what, pip_install("numpy<2"))
    if not examined.trials:
        return finding("ok", f"{shown}; not tried, because it takes seconds to start")
    again = pip_install(
        "--force-reinstall",
        "--no-cache-dir",
        f"{distribution}=={version}" if version else distribution,
    )
    if not examined.started:
        trial = next(t for t in examined.trials if t.stage == IMPORT)
        what = f"{shown} {_failure(trial)}."
        if trial.result in ("crashed", "hung"):
            # Whoever asks for the first runtime that works would end in the same way.
            return finding(
                "problem", what, pip("uninstall", "-y", distribution) if working else again
            )
        if "GLIBC" in trial.detail:
            again = "The system is too old for this package; install a newer one (Debian 12)."
        return finding(worse, what, again)
    if not examined.works:
        what = f"{shown} computes nothing correctly: {_failures(examined)}."
        return finding(worse, what, again)
    right = [t.stage for t in examined.probes if t.result == "right" and t.stage != PER_TENSOR]
    what = f"{shown} computes {_listed(right)} correctly"
    failures = _failures(examined)
    if not failures:
        return finding("ok", what)
    if any(t.stage == PER_TENSOR and t.result == "right" for t in examined.probes) and all(
        t.stage == "int8-float"
        for t in examined.trials
        if t.result != "right" and not t.stage.startswith(FILE)
    ):
        return finding(
            "note",
            f"{what}, and int8-float only as converted for it.",
            "Convert models for it: edgelstm quantize ... --runtime tflite-runtime",
        )
    return finding("note", f"{what}, but not {failures}.")


def _failures(examined: Examined) -> str:
    """The probes that failed and how."""
    return ", ".join(
        f"{t.stage} ({_failure(t)})"
        for t in examined.trials
        if t.stage == EXIT
        or (t in examined.probes and t.result != "right" and t.stage != PER_TENSOR)
    )


def _failure(trial: Trial) -> str:
    """How a stage failed, in words that follow the name of the runtime."""
    stage = "at its import " if trial.stage == IMPORT else ""
    if trial.result == "crashed":
        signal_name, _, why = trial.detail.partition(": ")
        return f"crashed {stage}({signal_name})" + (f": {why.rstrip('.')}" if why else "")
    if trial.result == "hung":
        return f"hung {stage}({trial.detail})"
    if trial.stage == IMPORT:
        return f"cannot be imported: {trial.detail.rstrip('.')}"
    return trial.detail.rstrip(".")


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def install_command(architecture: str, bits: int, python: tuple[int, int]) -> str:
    """How to get a runtime here: a command, or what to change first."""
    if bits == 64 and architecture in ("x86_64", "aarch64"):
        return pip_install("ai-edge-litert")
    # A 64-bit kernel under a 32-bit system calls itself aarch64.
    if architecture in ("armv7l", "armv8l", "aarch64"):
        if python <= (3, 11):
            return pip_install("tflite-runtime", "numpy<2")
        return (
            "Use Python 3.11, the last for which tflite-runtime has 32-bit packages, or install "
            "the 64-bit system (Raspberry Pi OS 64-bit)."
        )
    return (
        f"No runtime has packages for {architecture} in {bits} bits; use a machine with a 64-bit "
        "ARM or x86 processor and a 64-bit system."
    )


def artifact(name: str, described: str, damage: str, examined: Sequence[Examined]) -> list[Finding]:
    """Which runtimes run a file.

    Args:
        name: of the file.
        described: what it says of itself, in a few words.
        damage: why it cannot be read; empty if it can.
        examined: the runtimes, having tried the file.
    """
    section = "artifact"
    if damage:
        mend = "Copy the file again from where it was made, or make it: edgelstm quantize --help"
        return [Finding(section, name, "problem", damage, mend)]
    findings = [Finding(section, name, "ok", described)]
    trials = [(e.runtime, t) for e in examined for t in e.trials if t.stage.startswith(FILE)]
    runs = any(t.result == "right" for _, t in trials)
    for runtime, trial in trials:
        data = {"backend": runtime.backend, "result": trial.result}
        if trial.result == "right":
            what = f"runs it, and {trial.detail}"
            findings.append(Finding(section, runtime.title, "ok", what, data=data))
        else:
            # The refusals of edgelstm say themselves what to do.
            what = trial.detail if trial.result == "refused" else f"{_failure(trial)}."
            mend = "" if runs else "Convert the model for this machine: edgelstm quantize --help"
            level: Level = "note" if runs else "problem"
            findings.append(Finding(section, runtime.title, level, what, mend, data))
    if not trials:
        what = "no runtime could try it."
        mend = "Mend the runtimes first (see above)."
        findings.append(Finding(section, "runtimes", "problem", what, mend))
    return findings
