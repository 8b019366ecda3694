"""How well a service does, from what its device tells; and the pages on it."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from click import unstyle
from click.testing import CliRunner, Result

from edgelstm.cli import main
from edgelstm.commands.host_options import HostChoice
from edgelstm.commands.status_lines import page
from edgelstm.commands.trial_lines import outcome, step
from edgelstm_devices.agent import status as agent
from edgelstm_devices.agent.context import AgentError, Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.condition import condition_of
from edgelstm_devices.remote import OnEvent, Remote, ignore

UNIT = {
    "load": "loaded",
    "active": "active",
    "sub": "running",
    "result": "success",
    "enabled": True,
    "pid": 17,
    "restarts": 0,
    "memory": 48_000_000,
    "seconds": 300.0,
}
HEALTH = {"status": "ok", "problems": [], "age": 1.0}


def service(unit: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "name": "pump",
        "release": "20261121-053012-3f2a9c1b",
        "unit": UNIT | (unit or {}),
        "health": HEALTH,
        **changes,
    }


@pytest.mark.parametrize(
    ("told", "word", "reason"),
    [
        (service(), "ok", ""),
        (service(release=""), "no release", "No release"),
        (service() | {"unit": None}, "unknown", "systemd could not be asked"),
        (service(health={**HEALTH, "age": 11.5}), "failing", "said nothing for 12 s"),
        (service(health={**HEALTH, "status": "degraded", "problems": ["mqtt: away"]}),
         "degraded", "mqtt: away"),
        (service(health={**HEALTH, "status": "failing", "problems": ["pump: silent"]}),
         "failing", "pump: silent"),
        (service(health=None), "unknown", "does not say how it is"),
        (service({"seconds": 3.0}, health=None), "starting", "not said yet"),
        (service({"active": "activating", "sub": "start"}), "starting", "not ready"),
        (service({"active": "reloading", "sub": "reload"}), "starting", "configuration anew"),
        (service({"active": "deactivating", "sub": "stop-sigterm"}), "stopping", "being stopped"),
        (service({"active": "activating", "sub": "auto-restart", "result": "watchdog"}),
         "failing", "It ended (watchdog) and is started again."),
        (service({"active": "activating", "sub": "auto-restart", "restarts": 4}),
         "failing", "as it was 4 x before."),
        (service({"active": "failed", "sub": "failed", "result": "exit-code"}),
         "failing", "It ended (exit-code) and is not started again."),
        (service({"active": "inactive", "sub": "dead"}), "stopped", "It was stopped."),
        (service({"active": "inactive", "sub": "dead", "load": "not-found"}),
         "stopped", "cannot load its unit (not-found)"),
        (service({"sub": "exited"}), "failing", "Its process has ended"),
    ],
)  # fmt: skip
def test_the_condition_of_a_service(told: dict[str, Any], word: str, reason: str) -> None:
    condition = condition_of(told)
    assert (condition.word, condition.ok) == (word, word == "ok")
    assert reason in " ".join(condition.reasons)
    assert bool(condition.reasons) == (word != "ok")


# The agent's half, on a layout in a folder; systemd itself is there in the system's tests.


class FakeSystemd:
    """A systemd that says what a test wants."""

    shown: dict[str, str] = {}  # noqa: RUF012  # each test puts its own in its place
    lines: Sequence[str] = ()

    def __init__(self, _layout: Layout) -> None: ...

    def show(self, _unit: str, *properties: str) -> dict[str, str]:
        if not self.shown:
            raise AgentError("The device has no systemctl.")
        return {name: self.shown.get(name, "") for name in properties}

    def journal(self, _unit: str, lines: int) -> list[str]:
        return list(self.lines[-lines:])


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """With the service pump, whose edgelstm tells one alert; it may not be called twice."""
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    layout = Layout("user", environ=environ)
    place = layout.service("pump")
    release = place.release("r1")
    (release / "runtime/bin").mkdir(parents=True)
    (release / "release.json").write_text('{"id": "r1", "configuration": "pump.toml"}')
    program = release / "runtime/bin/edgelstm"
    program.write_text(
        '#!/bin/sh\necho "[{\\"said\\": \\"$*\\", \\"in\\": \\"$STATE_DIRECTORY\\"}]"\n'
    )
    program.chmod(0o755)
    place.current.symlink_to("releases/r1")
    monkeypatch.setattr(agent, "Systemd", FakeSystemd)
    monkeypatch.setattr(FakeSystemd, "shown", {
        "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success",
        "UnitFileState": "enabled", "MainPID": "17", "NRestarts": "2",
        "StateChangeTimestampMonotonic": f"{1e6 * (time.monotonic() - 60):.0f}",
    })  # fmt: skip
    return layout


def told_of(layout: Layout, **options: Any) -> tuple[dict[str, Any], list[str]]:
    answer = agent.status(Context(), layout=layout, **options)
    json.dumps(answer)  # plain data
    [one] = answer["services"]
    return one, answer["left_out"]


def write_health(layout: Layout, pid: int, age: float = 0.0) -> None:
    file = layout.service("pump").health_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"pid": pid, "time": time.time() - age, "status": "ok"}))


def test_everything_is_told(layout: Layout, tmp_path: Path) -> None:
    state = tmp_path / ".local/state/edgelstm/pump"
    state.mkdir(parents=True)
    write_health(layout, 17, age=5)
    one, left_out = told_of(layout, alerts=3)
    folder = layout.service("pump").release("r1")
    assert left_out == []
    assert one["made"]["id"] == one["release"] == "r1"
    assert one["health"]["age"] == pytest.approx(5, abs=1)
    assert one["unit"]["seconds"] == pytest.approx(60, abs=5)
    assert (one["unit"]["pid"], one["unit"]["restarts"], one["unit"]["enabled"]) == (17, 2, True)
    assert one["alerts"] == [
        {"said": f"alerts list --json --limit 3 --config {folder}/pump.toml", "in": str(state)}
    ]
    assert (one["trial"], one["journal"], one["history"]) == ("", [], [])
    assert one["data"] == [str(state)]


def test_the_health_of_another_process_says_nothing(layout: Layout) -> None:
    assert told_of(layout)[0]["health"] is None
    write_health(layout, 18)
    assert told_of(layout)[0]["health"] is None
    layout.service("pump").health_file.write_text("{")
    assert told_of(layout)[0]["health"] is None
    layout.service("pump").health_file.write_text('{"pid": 17}')
    assert told_of(layout)[0]["health"] is None


def test_a_service_that_does_not_run_tells_its_last_lines(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeSystemd, "shown", {"ActiveState": "failed", "MainPID": "0"})
    monkeypatch.setattr(FakeSystemd, "lines", ["one", "two", "three"])
    one, _ = told_of(layout, journal=2)
    assert one["journal"] == ["two", "three"]
    assert one["unit"]["seconds"] is one["unit"]["memory"] is None
    assert told_of(layout, journal=0)[0]["journal"] == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo Error: The disk fails. >&2; exit 2", "The alerts of pump: The disk fails."),
        ("exit 3", "The alerts of pump: exit code 3."),
        ("echo no", "The alerts of pump: Expecting value: line 1 column 1 (char 0)."),
        ("echo 'Error: There are no alerts in x: it has no y' >&2; exit 2", ""),
    ],
)
def test_alerts_that_cannot_be_read_are_left_out(layout: Layout, script: str, said: str) -> None:
    (layout.service("pump").current / "runtime/bin/edgelstm").write_text(f"#!/bin/sh\n{script}\n")
    one, left_out = told_of(layout)
    assert left_out == ([said] if said else [])
    assert one["alerts"] == (None if said else [])


def test_root_reads_the_alerts_as_the_service_user_only(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves, the service could not write to."""

    def no_user(_name: str) -> None:
        raise KeyError

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", no_user)
    of_machine = Layout("system", root=layout.root, environ={})
    one, left_out = told_of(of_machine)
    assert one["alerts"] is None
    assert "The alerts of pump: The device has no user edgelstm" in left_out[0]


def test_what_is_broken_is_left_out(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    place = layout.service("pump")
    (place.release("r1") / "release.json").write_text("{")
    monkeypatch.setattr(FakeSystemd, "shown", {})
    one, left_out = told_of(layout)
    assert one["made"] is one["unit"] is one["alerts"] is None
    assert [text.partition(":")[0] for text in left_out] == [
        "What systemd knows of pump",
        "What the release of pump is",
        "The alerts of pump",
    ]
    place.current.unlink()
    one, left_out = told_of(layout)
    assert (one["release"], one["alerts"], one["command"]) == ("", [], "")


@pytest.mark.parametrize(
    ("unit", "trial"),
    [("ExecStart=/o/services/pump/releases/r2/runtime/bin/edgelstm run", "r2"), ("", "unknown")],
)
def test_a_trial_is_told(layout: Layout, unit: str, trial: str) -> None:
    file = layout.service("pump").trial_unit_file
    file.parent.mkdir(parents=True)
    file.write_text(unit)
    assert told_of(layout)[0]["trial"] == trial


def test_services_by_name(layout: Layout) -> None:
    layout.service("fan").releases.mkdir(parents=True)
    found = agent.services(Context(), layout=layout)
    assert [(one["name"], one["release"]) for one in found] == [("fan", ""), ("pump", "r1")]
    with pytest.raises(AgentError, match=r"no service 'bump' on the device; it has fan, pump\."):
        agent.status(Context(), layout=layout, service="bump")


# The commands, on a device that answers from here.


class FakeRemote(Remote):
    """Answers calls with what a test has; programs end with the exit code that it has."""

    def __init__(self, answers: dict[str, Any], code: int = 0) -> None:
        self.host, self.layout = "pump-3", {"mode": "system", "root": None}
        self.answers, self.code = answers, code
        self.calls: list[tuple[Any, ...]] = []

    def call(
        self,
        name: str,
        /,
        *,
        root: bool = False,
        on_event: OnEvent = ignore,
        body: BinaryIO | None = None,
        **arguments: Any,
    ) -> Any:
        assert body is None
        assert arguments.pop("layout") == self.layout
        self.calls.append((name, root, arguments))
        on_event({"what": "starting", "release": "r1"})
        return copy.deepcopy(self.answers[name])

    def run(self, *argv: str, root: bool = False, stdin: Any = None) -> int:
        sent = stdin.read() if stdin else b""
        self.calls.append((argv, root, sent))
        return self.code


def run(remote: FakeRemote, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    @contextmanager
    def connect(_chosen: HostChoice) -> Any:
        yield remote

    monkeypatch.setattr(HostChoice, "connect", connect)
    return CliRunner().invoke(main, arguments)


WHERE: dict[str, Any] = {
    "name": "pump",
    "home": "/opt/edgelstm/services/pump",
    "release": "r1",
    "folder": "/opt/edgelstm/services/pump/releases/r1",
    "command": "/opt/edgelstm/services/pump/current/runtime/bin/edgelstm",
    "data": ["/var/lib/edgelstm/pump"],
    "log": True,
}
WELL: dict[str, Any] = {
    **WHERE,
    "made": {"id": "r1", "made": "2026-11-21T05:30:12+00:00", "by": "ann\x1b[2J", "edgelstm": "1.0",
             "artifacts": ["a.tflite"]},
    "unit": UNIT,
    "health": {
        **HEALTH,
        "version": "1.0",
        "outbox": {"bytes": 200_000, "alerts": 1},
        "sensors": {
            "pump": {
                "status": "ok", "warming_up": True, "readings": 12345, "scored": 0, "alerts": 0,
                "open_alerts": 0, "silent_seconds": 0.25, "score": None, "threshold": None,
                "step_microseconds": {"median": 41.25, "p99": None}, "artifact": "a.tflite",
                "recipe": "int8", "sha256": "ab" * 32, "backend": "litert 2.3.0",
            }
        },
        "sources": {},
        "sinks": {
            "phone": {"kind": "webhook", "sent": 3, "pending": 0, "failures": 0, "refused": 0,
                      "last_sent": None}
        },
    },
    "alerts": [{"schema": 99}],
    "history": [
        {"time": 0.0, "what": "deploy", "release": "r1", "committed": False, "reason": "Too slow."}
    ],
    "trial": "r2",
    "journal": [],
}  # fmt: skip


def test_the_page_on_a_service() -> None:
    lines = list(map(unstyle, page("pump-3", [(WELL, condition_of(WELL))], ["A thing."])))
    text = "\n".join(lines)
    assert lines[0] == "pump  ok"
    assert "Release r2 is on trial now." in text
    assert "by ann\\x1b[2J" in text  # nothing that a terminal obeys
    assert "active (running) for 5 min, 48 MB" in text
    assert "warming up  " in text
    assert "12,345" in text
    assert "41.2 us" in text
    assert "  source" not in text
    assert "never" in text
    assert "  (as another edgelstm tells it, see --json)" in text
    assert "1970-01-01 00:00:00  deploy    r1  not taken: Too slow." in text
    assert lines[-4:] == ["left out", "  A thing.", "", "pump-3: the service is well."]


@pytest.mark.parametrize("key", ["health", "history", "made"])
def test_what_another_edgelstm_tells(key: str) -> None:
    """It may say less, or more."""
    strange: Any = {**HEALTH, "sensors": {"pump": {}}} if key == "health" else {"new": 1}
    told = WELL | {key: [strange] if key == "history" else strange}
    text = "\n".join(page("pump-3", [(told, condition_of(told))], []))
    assert "another edgelstm" in text
    assert "pump-3: the service is well." in text


def test_status_says_it_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = FakeRemote({"status": {"services": [WELL], "left_out": ["The alerts: no."]}})
    result = run(remote, "status", "pump-3", monkeypatch=monkeypatch)
    assert result.exit_code == 0
    assert "With --sudo" in result.stdout
    assert remote.calls == [("status", False, {"service": ""})]
    result = run(remote, "status", "pump-3", "--sudo", "--name", "pump", monkeypatch=monkeypatch)
    assert remote.calls[-1] == ("status", True, {"service": "pump"})
    assert "With --sudo" not in result.stdout

    remote.answers["status"]["services"] = []
    result = run(remote, "status", "pump-3", monkeypatch=monkeypatch)
    assert result.exit_code == 1
    assert "pump-3 has no service; 'edgelstm deploy' brings one there.\n" in result.stdout
    remote.answers["status"]["services"] = [WELL]

    remote.answers["status"]["services"].append(WELL | {"name": "fan", "health": None})
    result = run(remote, "status", "pump-3", "--json", monkeypatch=monkeypatch)
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["host"]) == (1, False, "pump-3")
    assert [one["condition"]["word"] for one in told["services"]] == ["ok", "unknown"]
    result = run(remote, "status", "pump-3", monkeypatch=monkeypatch)
    assert result.stdout.endswith("pump-3: not well: fan.\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["--lines=50"]),
        (("-n", "7", "-f"), ["--lines=7", "--follow"]),
        (("--since", "-1h", "--json"), ["--since=-1h", "--output=json"]),
    ],
)
def test_logs_are_of_journalctl(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: list[str]
) -> None:
    remote = FakeRemote({"services": [WHERE]})
    result = run(remote, "logs", "pump-3", *arguments, monkeypatch=monkeypatch)
    assert (result.exit_code, result.output) == (0, "")
    argv = ("journalctl", "--no-pager", "--unit", "edgelstm@pump.service", *expected)
    assert remote.calls[-1] == (argv, False, b"")


def test_logs_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = FakeRemote({"services": [WHERE | {"log": False}]}, code=1)
    result = run(remote, "logs", "pump-3", monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert "with --sudo" in result.stderr
    result = run(remote, "logs", "pump-3", "--sudo", monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert "journalctl on pump-3 failed" in result.stderr


@pytest.mark.parametrize(
    ("found", "name", "message"),
    [
        ([], (), "pump-3 has no service; look with --user"),
        ([WHERE], ("--name", "fan"), "pump-3 has no service 'fan'; it has pump."),
        ([WHERE, WHERE | {"name": "fan"}], (), "name one with --name: pump, fan."),
    ],
)
@pytest.mark.parametrize("command", ["logs", "rollback", "uninstall"])
def test_which_service_is_meant(
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    found: list[Any],
    name: tuple[str, ...],
    message: str,
) -> None:
    remote = FakeRemote({"services": found})
    result = run(remote, command, "pump-3", *name, monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [call[0] for call in remote.calls] == ["services"]


ANSWER: dict[str, Any] = {
    "release": "r0", "previous": "r1", "committed": True, "reason": "", "restored": "",
    "journal": [], "seconds": {"down": 2.0},
}  # fmt: skip


def test_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = FakeRemote({"services": [WHERE], "rollback": ANSWER})
    result = run(remote, "rollback", "pump-3", "--to", "r0", monkeypatch=monkeypatch)
    assert (result.exit_code, result.stdout) == (
        0,
        "ok  pump-3 runs release r0 of pump; 2 s without readings.\n",
    )
    assert result.stderr.startswith("On pump-3, root is needed to start an earlier release")
    assert "starting it" in result.stderr
    assert remote.calls[-1][2] == {"service": "pump", "to": "r0", "grace": 30.0}
    remote.answers["rollback"] = ANSWER | {"committed": False, "restored": "active"}
    result = run(remote, "rollback", "pump-3", "--json", monkeypatch=monkeypatch)
    assert (result.exit_code, json.loads(result.stdout)["restored"]) == (1, "active")


@pytest.mark.parametrize(
    ("restored", "last"),
    [
        ("active", "pump-3 goes on with release r1."),
        ("stopped", "pump on pump-3 is stopped, as it was before."),
        ("none", "pump-3 had no release of pump before, and has none that runs now."),
        ("failed", "The one before, r1, does not get ready either: see 'edgelstm logs pump-3'."),
    ],
)
def test_how_a_trial_that_failed_ended(restored: str, last: str) -> None:
    answer = ANSWER | {
        "committed": False, "restored": restored, "reason": "It hung.", "journal": ["x\x07"],
    }  # fmt: skip
    first, *lines = outcome("pump-3", "pump", answer)
    assert unstyle(first) == "failed  It hung."
    assert lines == ["  Its last lines:", "    x\\x07", last]


def test_what_a_trial_tells() -> None:
    assert step({"what": "ready", "release": "r"}) == "  it is ready; waiting for readings"
    assert "not at fan, of which" in step({"what": "reading", "excused": ["fan"]})
    assert step({"what": "something new"}) == "  something new"


def test_uninstall_names_what_goes_and_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"removed": [], "kept": ["/var/lib/edgelstm/pump"]}
    remote = FakeRemote({"services": [WHERE], "uninstall": done})
    result = run(remote, "uninstall", "pump-3", monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert "say that you mean it with --yes" in result.stderr
    assert "and keeps\n  /var/lib/edgelstm/pump" in result.stderr
    assert [call[0] for call in remote.calls] == ["services"]
    result = run(remote, "uninstall", "pump-3", "--yes", monkeypatch=monkeypatch)
    assert (result.exit_code, result.stdout) == (
        0,
        "pump-3 has no service pump any more.\n  kept: /var/lib/edgelstm/pump\n",
    )
    assert remote.calls[-1] == ("uninstall", True, {"service": "pump", "purge": False})
    result = run(remote, "uninstall", "pump-3", "--yes", "--purge", monkeypatch=monkeypatch)
    assert "keeps" not in result.stderr
    assert remote.calls[-1][2]["purge"] is True


@pytest.mark.parametrize(("answer", "called"), [(True, True), (False, False)])
def test_uninstall_asks(monkeypatch: pytest.MonkeyPatch, answer: bool, called: bool) -> None:
    remote = FakeRemote({"services": [WHERE], "uninstall": {"removed": [], "kept": []}})
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("edgelstm.commands.uninstall.sys", terminal)
    monkeypatch.setattr("click.confirm", lambda *_, **__: answer)
    result = run(remote, "uninstall", "pump-3", monkeypatch=monkeypatch)
    assert result.exit_code == 0
    assert (remote.calls[-1][0] == "uninstall") is called
    assert ("Nothing was changed." in result.stderr) is not called


def test_measuring_on_a_device(monkeypatch: pytest.MonkeyPatch, tiny_path: Path) -> None:
    remote = FakeRemote({"services": [WHERE], "status": {"services": [WELL], "left_out": []}})
    options = ("--seconds", "1", "--streams", "4", "--json")
    shown = ("--streams=4", "--backend=auto", "--seconds=1", "--footprint", "--json")
    result = run(remote, "bench", "--on", "pump-3", *options, monkeypatch=monkeypatch)
    assert result.exit_code == 0, result.output
    own = f"{WHERE['folder']}/a.tflite"
    assert remote.calls[-1] == ((WHERE["command"], "bench", own, *shown), False, b"")
    here = str(tiny_path)
    result = run(remote, "bench", here, "--on", "pump-3", *options, monkeypatch=monkeypatch)
    argv, _, sent = remote.calls[-1]
    assert list(argv[:2]) == ["sh", "-c"]
    assert list(argv[3:]) == ["sh", WHERE["command"], "tiny.tflite", *shown]
    assert sent == tiny_path.read_bytes()
    remote.code = 1
    result = run(remote, "bench", "--on", "pump-3", monkeypatch=monkeypatch)
    assert result.exit_code == 2


def test_what_cannot_be_measured_on_a_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    several = copy.deepcopy(WELL)
    several["made"]["artifacts"] = ["a.tflite", "b.tflite"]
    for answers, arguments, message in (
        ({"services": [WHERE | {"command": ""}]}, (), "pump-3 has no release of pump"),
        ({"services": [WHERE], "status": {"services": [several]}}, (), "(a.tflite, b.tflite)"),
        ({"services": [WHERE], "status": {"services": [WELL | {"made": None}]}}, (), "be seen"),
        ({}, (str(tmp_path / "no.tflite"),), "no.tflite: No such file"),
    ):
        remote = FakeRemote(answers)
        result = run(remote, "bench", *arguments, "--on", "pump-3", monkeypatch=monkeypatch)
        assert result.exit_code == 2
        assert message in result.stderr
    for options in (("x.tflite", "--name", "pump"), ("--user",), ("-p", "22")):
        result = run(FakeRemote({}), "bench", *options, monkeypatch=monkeypatch)
        assert result.exit_code == 2
        assert "go with --on HOST" in result.stderr
    result = run(FakeRemote({}), "bench", monkeypatch=monkeypatch)
    assert "Missing argument 'ARTIFACT', or --on HOST." in result.stderr
