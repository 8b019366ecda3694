"""Trying a release where it lies, before anything is switched: does it compute what it should here?

It is done by the release's own edgelstm, as the user that the service has, and touches nothing of
the service: states and everything else that is written go to a folder that is removed afterwards.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .files import in_words, make_folder
from .layout import Layout, Service
from .programs import PATH, Done, Identity, identity, run
from .runtimes import damaged_file
from .unit_environment import UnitEnvironment, manager_environment, unit_environment

COUNTED = ("python", "runtimes", "artifact")
"""Sections of the doctor whose problems keep a release from running. The others are about what may
come later or is not needed (a port to be plugged in, an Edge TPU), or were looked at by preflight
(disk, clock, machine)."""

_PROBE_S = 120.0  # for a runtime: an emulated or small computer takes its time
_ASKING_S = 30.0
_DOCTOR_S, _VERIFY_S, _CHECK_S = 600.0, 300.0, 300.0
_NOTHING_TO_REPLAY = "carries no golden vectors"
_LOGS = Path("/var/log/edgelstm")


def prove(context: Context, *, layout: Layout, spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Runs `doctor`, `verify` of each artifact and `run --check` of a staged release.

    Args:
        context: of the caller, who hears of each that begins.
        layout: of the installation.
        spec: a `ReleaseSpec` that is staged.

    Returns:
        For each in this order: `what` ("doctor", "verify NAME", "configuration"), `ok`, `text` (a
        sentence, or the last lines of what it said) and `data` (what it said as JSON, or None).
        `doctor` is given the first artifact; of its problems only those in `COUNTED` count. Every
        one is tried, though an earlier one failed. "runtime" is there besides when one failed, and
        the runtime was damaged since it was made.

    Raises:
        AgentError: the release is not there, its user is missing, or the caller went away.
    """
    place = layout.service(spec["service"])
    folder = place.release(spec["id"])
    runtime = spec["runtime"]["id"]
    with in_words(folder), _bench(context, layout, place, spec) as bench:
        try:
            answer = [_doctor(context, bench, folder / spec["artifacts"][0])]
            answer += [_verify(context, bench, folder / name) for name in spec["artifacts"]]
            answer.append(_check(context, bench, folder / spec["configuration"]))
        except AgentError as error:
            if context.alive() and (damage := _damage(layout, runtime)):
                raise AgentError(damage) from error
            raise
        if not all(one["ok"] for one in answer) and (damage := _damage(layout, runtime)):
            answer.append(_answer("runtime", False, damage, None))
    return answer


@dataclass(frozen=True)
class _Bench:
    """What the programs of a release are started with."""

    program: Path
    environment: Mapping[str, str]
    user: Identity | None
    handed: UnitEnvironment

    def run(self, context: Context, *arguments: str | Path, timeout: float) -> Done:
        command = [self.program, *arguments]
        folder = Path(self.environment["TMPDIR"])
        return run(context, command, environment=self.environment, timeout=timeout,
                   user=self.user, folder=folder, umask=0o077)  # fmt: skip


@contextmanager
def _bench(
    context: Context, layout: Layout, place: Service, spec: Mapping[str, Any]
) -> Iterator[_Bench]:
    user = identity(layout)
    given = _given_to_all(context, layout)
    handed = unit_environment(place, spec["unit"])
    temporary = Path(tempfile.mkdtemp(prefix="edgelstm-"))
    try:
        environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            **given,
            "HOME": user.home if user else pwd.getpwuid(os.geteuid()).pw_dir,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            **handed.variables,
            "TMPDIR": str(temporary),
            "XDG_CACHE_HOME": str(temporary),
        }
        # As systemd does for a service; the real ones are those of the release that runs.
        for name in ("STATE", "RUNTIME", "LOGS", "CACHE"):
            (temporary / name.lower()).mkdir(mode=0o700)
            environment[f"{name}_DIRECTORY"] = str(temporary / name.lower())
        if handed.credentials:
            _copy_credentials(handed.credentials, temporary / "credentials")
            environment["CREDENTIALS_DIRECTORY"] = str(temporary / "credentials")
        if user:
            # The folder last: until then nobody else can put a link there.
            for path in [*temporary.rglob("*"), temporary]:
                os.chown(path, user.uid, user.gid, follow_symlinks=False)
            _make_logs(place, spec, user)
        program = place.release(spec["id"]) / "runtime/bin/edgelstm"
        yield _Bench(program, environment, user, handed)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _given_to_all(context: Context, layout: Layout) -> dict[str, str]:
    """What systemd hands to every service; nothing where it does not answer."""
    scope = ["--user"] if layout.mode == "user" else []
    environment = {"PATH": PATH, "XDG_RUNTIME_DIR": str(layout.run.parent)}
    with suppress(AgentError):  # no systemctl: preflight says so
        done = run(
            context,
            ["systemctl", *scope, "show-environment"],
            environment=environment,
            timeout=_ASKING_S,
        )
        if done.code == 0:
            return manager_environment(done.out)
    return {}


def _copy_credentials(files: Mapping[str, Path], folder: Path) -> None:
    """As systemd does: who reads them need not be allowed to read the files themselves."""
    folder.mkdir(mode=0o700)
    for name, path in files.items():
        # A missing one is what `run --check` says better.
        with suppress(OSError):
            descriptor = os.open(folder / Path(name).name, os.O_WRONLY | os.O_CREAT, 0o400)
            with os.fdopen(descriptor, "wb") as file:
                file.write(path.read_bytes())


def _make_logs(place: Service, spec: Mapping[str, Any], user: Identity) -> None:
    """Makes the folder of logs, as systemd will, where the configuration writes to it.

    A configuration is refused when a folder that it names is not there.
    """
    folder = _LOGS / place.name
    text = (place.release(spec["id"]) / spec["configuration"]).read_bytes()
    if str(folder).encode() in text and not folder.is_dir():
        make_folder(folder)
        os.chown(folder, user.uid, user.gid, follow_symlinks=False)


def _doctor(context: Context, bench: _Bench, artifact: Path) -> dict[str, Any]:
    context.event(what="proving", name="doctor")
    done = bench.run(
        context, "doctor", "--json", f"--timeout={_PROBE_S:.0f}", artifact, timeout=_DOCTOR_S
    )
    data = _json(done.out)
    if data is None or not isinstance(data.get("findings"), list):
        return _answer("doctor", False, _said(done, _DOCTOR_S), None)
    problems = [f for f in data["findings"] if f["level"] == "problem"]
    counted = [f for f in problems if f["section"] in COUNTED]
    others = [f for f in problems if f not in counted]
    if counted:
        text = "\n".join(f"{f['name']}: {f['what']} {f['mend']}".rstrip() for f in counted)
    else:
        text = "No problem."
        if others:
            text = "No problem that matters here; otherwise: " + " ".join(
                f"{f['name']}: {f['what']}" for f in others
            )
    return _answer("doctor", not counted, text, data)


def _verify(context: Context, bench: _Bench, artifact: Path) -> dict[str, Any]:
    what = f"verify {artifact.name}"
    context.event(what="proving", name=what)
    done = bench.run(context, "verify", "--json", artifact, timeout=_VERIFY_S)
    data = _json(done.out)
    if done.code == 0 and data is not None:
        text = f"On {data['runtime']} all {data['runs']} golden runs hold."
        return _answer(what, True, text, data)
    if done.code == 1 and data is not None:
        text = f"On {data['runtime']} the golden runs do not hold{_difference(data)}."
        return _answer(what, False, text, data)
    if done.code == 2 and _NOTHING_TO_REPLAY in done.err:
        # Of another tool: the doctor and the configuration have to do.
        return _answer(what, True, done.last_lines(1), None)
    return _answer(what, False, _said(done, _VERIFY_S), None)


def _difference(data: Mapping[str, Any]) -> str:
    """Where a replay left the golden vectors, in words; a number that is none comes as None."""
    first = data.get("first")
    if not first:  # it was a delegate that did not run all of them
        return " on the delegate"
    got, expected, tolerance = (
        "nan" if first[name] is None else f"{first[name]:.6g}"
        for name in ("got", "expected", "tolerance")
    )
    return (
        f", first in run {first['run']}, target {first['target']!r}: {got} instead of {expected} "
        f"(tolerance {tolerance})"
    )


def _check(context: Context, bench: _Bench, configuration: Path) -> dict[str, Any]:
    what = "configuration"
    if bench.handed.unknown:
        keys = ", ".join(f"{key}=" for key in dict.fromkeys(bench.handed.unknown))
        text = f"Left to the trial: the unit has {keys}, which only systemd can read."
        return _answer(what, True, text, None)
    context.event(what="proving", name=what)
    done = bench.run(context, "run", configuration, "--check", timeout=_CHECK_S)
    return _answer(what, done.code == 0, _said(done, _CHECK_S), None)


def _damage(layout: Layout, runtime: str) -> str:
    """What is said of a damaged runtime, which is not made anew by itself; "" of a whole one."""
    folder = layout.runtimes / runtime
    try:
        found = damaged_file(layout, runtime)
    except (OSError, ValueError) as error:
        found = f"{folder} ({error})"
    if not found:
        return ""
    sudo = "sudo " if layout.mode == "system" else ""
    return (
        f"The device's runtime is damaged (a memory card may be wearing out): {found} is not as it "
        f"was installed; run there: {sudo}rm -r {folder} and deploy again at once, for what runs "
        "there may not start again until then."
    )


def _answer(what: str, ok: bool, text: str, data: Any) -> dict[str, Any]:
    return {"what": what, "ok": ok, "text": text, "data": data}


def _said(done: Done, limit: float) -> str:
    """The last lines of a program, or how it ended without any."""
    lines = done.last_lines()
    if done.code is None:
        return f"{lines}\nIt did not end within {limit:.0f} s.".lstrip()
    return lines or f"It ended with exit code {done.code} and said nothing."


def _json(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
