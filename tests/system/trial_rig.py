"""Services on trial in a machine with systemd: a stand-in for edgelstm, and a way to begin."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systemd_machine import PROJECT, Machine, make_root, write

from edgelstm_devices.release import Mode
from edgelstm_devices.unit import render_unit

ROOT = "/opt/edgelstm"
TIMES = {"ready_timeout": 20.0, "readings_timeout": 3.0, "grace": 1.0, "silence": 3.0}
DRIVER = "/opt/driver.py"
HOME = "/home/pi"

STAND_IN = """#!/usr/bin/python3 -B
import json, os, signal, socket, sys, time

plan = json.load(open(sys.argv[2]))
plan = {"ready": True, "readings": True, "health": True, "sensors": ["pump"], **plan}
release = os.path.basename(os.path.dirname(os.path.realpath(sys.argv[2])))
print("here is", release, flush=True)
if plan.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "exit" in plan:
    print(plan.get("say", "no"), flush=True)
    sys.exit(plan["exit"])

def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])

def tell(age):
    quiet = plan.get("silent", [])
    failing = "fails_after" in plan and age > plan["fails_after"]
    sensors = {
        name: {
            "status": "failing" if failing or name in plan.get("failing", []) else "ok",
            "problem": "it hums" if failing else None,
            "readings": 1000 + (0 if name in quiet or not plan["readings"] else int(age * 20)),
        }
        for name in plan["sensors"]
    }
    status = "failing" if any(one["status"] == "failing" for one in sensors.values()) else "ok"
    health = {
        "pid": plan.get("pid", os.getpid()), "time": time.time(), "status": status,
        "problems": ["it hums"] if failing else plan.get("problems", []), "sensors": sensors,
    }
    path = os.path.join(os.environ["RUNTIME_DIRECTORY"], "health.json")
    with open(path + ".new", "w") as file:
        json.dump(health, file)
    os.rename(path + ".new", path)

began = time.monotonic()
if plan["health"]:
    tell(0.0)
if plan["ready"]:
    notify("READY=1")
while True:
    time.sleep(0.05)
    age = time.monotonic() - began
    notify("WATCHDOG=1")
    if plan["health"] and age < plan.get("hangs_after", 1e9):
        tell(age)
    if age > plan.get("ends_after", 1e9):
        print("that was it", flush=True)
        sys.exit(7)
    if age > plan.get("dies_after", 1e9):
        os.kill(os.getpid(), signal.SIGSEGV)
"""

_DRIVER = f"""
import json, os, sys, time
sys.path.insert(0, "/opt/source/devices/edgelstm_devices")
sys.dont_write_bytecode = True
from agent import switching, trial
from agent.context import AgentError, Context
from agent.layout import Layout

name, arguments, die_after = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
gone_at = arguments.pop("gone_at", None)
service = arguments.get("service") or arguments["spec"]["service"]

class Caller(Context):
    gone = False

    def event(self, **fields):
        self.gone = self.gone or fields["what"] == gone_at
        print(json.dumps({{"event": fields}}), flush=True)

    def alive(self):
        return not (self.gone or os.path.exists("/run/gone-" + service))

def counted(step):
    def do():
        global die_after
        if die_after == 0:
            os.kill(os.getpid(), 9)
        die_after -= 1
        step()
    return do

take, finish = switching.Taking.to_take, switching.Taking.to_finish
if die_after >= 0:
    switching.Taking.to_take = lambda self: tuple(counted(one) for one in take(self))
    switching.Taking.to_finish = lambda self: tuple(counted(one) for one in finish(self))
slow_end = arguments.pop("slow_end", 0.0)
if slow_end:
    switching.Taking.to_finish = lambda self: (lambda: time.sleep(slow_end), *finish(self))
slow_card = arguments.pop("slow_card", 0.0)
if slow_card:
    os.sync = lambda: time.sleep(slow_card)
mode = arguments.pop("mode", "system")
root = arguments.pop("root", "{ROOT}" if mode == "system" else None)
try:
    answer = getattr(trial, name)(Caller(), layout=Layout(mode, root), **arguments)
    print(json.dumps({{"result": answer}}), flush=True)
except AgentError as error:
    print(json.dumps({{"error": str(error)}}), flush=True)
"""


@dataclass
class Outcome:
    """What came of a call on the device."""

    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""

    @classmethod
    def of(cls, output: str, log: str = "") -> Outcome:
        outcome = cls(log=log)
        for line in output.splitlines():
            said = json.loads(line)
            outcome.result = said.get("result", outcome.result)
            outcome.error = said.get("error", outcome.error)
            outcome.events += [said["event"]] if "event" in said else []
        return outcome

    @property
    def whats(self) -> list[str]:
        return [event["what"] for event in self.events]


def unit(service: str) -> str:
    return f"edgelstm@{service}.service"


def make_trial_root(root: Path) -> None:
    """A machine that runs the services that are enabled in it, from boot on."""
    make_root(root)
    setup = PROJECT / "devices/setup/edgelstm.sysusers"
    write(root / "etc/sysusers.d/edgelstm.conf", setup.read_text())
    write(
        root / "etc/systemd/system/test.target",
        "[Unit]\nRequires=sysinit.target\nWants=multi-user.target\nAfter=sysinit.target\n",
    )
    write(root / DRIVER[1:], _DRIVER)


class Trials:
    """Trials on a machine.

    Args:
        machine: made by `make_trial_root`.
        mode: of the deployments.
    """

    def __init__(self, machine: Machine, mode: Mode = "system") -> None:
        self.machine, self._mode = machine, mode

    def folder(self, service: str) -> Path:
        root = ROOT if self._mode == "system" else f"{HOME}/.local/share/edgelstm"
        return self.machine.root / root[1:] / "services" / service

    def stage(
        self, service: str, release: str, unit: dict[str, str] | None = None, **plan: Any
    ) -> dict[str, Any]:
        """Has a release of the stand-in on the machine, that does as the plan says.

        Args:
            service: its name.
            release: its id.
            unit: what to replace in its unit.
            plan: see `STAND_IN`; `expect_readings` is the specification's.
        """
        text = render_unit(service, self._mode, ())
        # As short as they can be, for the tests' sake.
        for old, new in {"RestartSec=10\n": "RestartSec=100ms\n", **(unit or {})}.items():
            assert old in text
            text = text.replace(old, new)
        spec = {
            "service": service,
            "id": release,
            "unit": text,
            "expect_readings": plan.pop("expect_readings", True),
        }
        folder = self.folder(service) / "releases" / release
        write(folder / "runtime/bin/edgelstm", STAND_IN, 0o755)
        write(folder / f"{service}.toml", json.dumps(plan))
        write(folder / "release.json", json.dumps(spec))
        return spec

    def call(
        self, name: str, *wrapper: str, die_after: int | None = None, **arguments: Any
    ) -> Outcome:
        """Makes a call, and waits for its end.

        Args:
            name: of the call.
            wrapper: a command that runs it.
            die_after: so many of the steps that take a release it dies by SIGKILL; None for never.
            arguments: of the call; the caller is gone from the event `gone_at` on, what is
                written takes `slow_card` seconds to reach the card, and between the step that takes
                a release and those after it are `slow_end` seconds.
        """
        arguments["mode"] = self._mode
        command = ["/usr/bin/python3", DRIVER, name, json.dumps(arguments)]
        command += ["-1" if die_after is None else str(die_after)]
        done = self.machine.run(*wrapper, *command, check=False)
        return Outcome.of(done.stdout, done.stderr)

    def trial(self, spec: dict[str, Any], *wrapper: str, **more: Any) -> Outcome:
        """Tries a release, and waits for the end."""
        return self.call("trial", *wrapper, spec=spec, **{**TIMES, **more})

    def begin(self, spec: dict[str, Any], **more: Any) -> str:
        """Tries a release in a unit of its own, and gives that unit's name."""
        unit = f"caller-{spec['service']}-{time.monotonic_ns()}.service"
        arguments = json.dumps({"spec": spec, **TIMES, **more})
        self.machine.run(
            "systemd-run", "--quiet", f"--unit={unit}", "--collect", "--service-type=exec",
            "-p", f"StandardOutput=file:/run/{unit}", "--",
            "/usr/bin/python3", DRIVER, "trial", arguments.replace("$", "$$"), "-1",
        )  # fmt: skip
        return unit

    def outcome(self, unit: str) -> Outcome:
        """What came so far of a trial that was begun."""
        return Outcome.of(self.machine.run("cat", f"/run/{unit}").stdout)

    def reached(self, unit: str, what: str) -> None:
        """Waits for an event of a trial that was begun."""
        self.machine.wait(lambda: what in self.outcome(unit).whats, f"the event {what!r}")

    def running(self, service: str) -> str:
        """The id of the release that runs and is ready; "" if none is."""
        unit = f"edgelstm@{service}.service"
        if self.machine.show(unit, "ActiveState") != "active":
            return ""
        pid = self.machine.show(unit, "MainPID")
        invocation = self.machine.show(unit, "InvocationID")
        said = self.machine.run(
            "journalctl", "-q", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}", f"_PID={pid}"
        ).stdout
        return said.split()[2] if said else ""

    def current(self, service: str) -> str:
        link = self.folder(service) / "current"
        return link.readlink().name if link.is_symlink() else ""

    def traces(self, service: str) -> list[str]:
        """What systemd has of a service besides its process."""
        found = self.machine.run(
            "find", "/etc/systemd", "/run/systemd/system.control", "/run/edgelstm",
            "-name", f"*edgelstm@{service}.*", "-o", "-name", service, check=False,
        ).stdout  # fmt: skip
        guards = self.machine.run(
            "systemctl", "list-units", "--all", "--plain", "--no-legend",
            f"edgelstm-guard-{service}:*",
        ).stdout  # fmt: skip
        return sorted([*found.split(), *guards.split()[:1]])

    def history(self, service: str) -> list[dict[str, Any]]:
        path = self.folder(service) / "history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]
