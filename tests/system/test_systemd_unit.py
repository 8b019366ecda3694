"""The unit under systemd itself, in a container: see `systemd_machine`."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from systemd_machine import PROJECT, Machine, booted, make_root, why_not, write

from edgelstm.sinks.journal import MESSAGE_ID
from edgelstm_devices.release import RELEASE_MARK, Mode
from edgelstm_devices.unit import render_unit

SETUP = PROJECT / "devices/setup"
UNIT = SETUP / "edgelstm@.service"
DATA = PROJECT / "tests/data"
DROP_INS = "etc/systemd/system"

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="run: apt-get install systemd"
)
needs_machine = pytest.mark.skipif(bool(why_not()), reason=why_not())


def analyze(unit: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What systemd thinks of a unit; its program, which is not installed here, is another."""
    file = folder / "edgelstm@pump.service"
    file.write_text(unit.replace("/opt/edgelstm/bin/edgelstm", "/bin/true"))
    return subprocess.run(
        ["/usr/bin/systemd-analyze", *arguments, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )


@needs_analyze
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    done = analyze(UNIT.read_text(), tmp_path, "verify")
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("WatchdogSec=", "WatchDogSec="),
        ("Type=notify\n", "Type=notify-please\n"),
        ("StartLimitIntervalSec=0\n", "StartLimitIntervalSec=zero\n"),
        ("/bin/kill", "/no/such/kill"),
    ],
)
def test_a_mistake_would_be_found(tmp_path: Path, good: str, bad: str) -> None:
    text = UNIT.read_text()
    assert good in text
    assert analyze(text.replace(good, bad), tmp_path, "verify").stderr


@needs_analyze
def test_the_docs_say_how_exposed_the_service_is(tmp_path: Path) -> None:
    said = analyze(UNIT.read_text(), tmp_path, "security", "--offline=true").stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+) ", said)
    assert found, said
    assert float(found[1]) < 2
    assert f"exposure level of {found[1]}" in (PROJECT / "docs/service.md").read_text()


def rendered(mode: Mode, folder: Path, **more: Any) -> Path:
    """The unit of a release, with a program that is installed here."""
    text = render_unit("pump", mode, ("char-ttyACM", "char-ttyUSB"), **more)
    file = folder / "edgelstm@pump.service"
    file.write_text(text.replace(f"{RELEASE_MARK}/runtime/bin/edgelstm", "/bin/true"))
    return file


@needs_analyze
@pytest.mark.parametrize("coral", [False, True])
@pytest.mark.parametrize("mode", ["system", "user"])
def test_the_unit_of_a_release(tmp_path: Path, mode: Mode, coral: bool) -> None:
    """systemd has nothing to say against it, and finds the service well shut in."""
    file = rendered(mode, tmp_path, coral=coral, systemd=252)
    scope = ["--user"] if mode == "user" else []
    for arguments in ([*scope, "verify"], ["security", "--offline=true"]):
        done = subprocess.run(
            ["/usr/bin/systemd-analyze", "--no-pager", *arguments, str(file)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments
        if "verify" in arguments:
            assert done.stdout == ""
    found = re.search(r"Overall exposure level for \S+: ([\d.]+) ", done.stdout)
    assert found, done.stdout
    assert float(found[1]) < 3


@needs_analyze
def test_the_unit_to_install_for_one_user(tmp_path: Path) -> None:
    text = (SETUP / "edgelstm-user@.service").read_text()
    file = tmp_path / "edgelstm@pump.service"
    file.write_text(text.replace("%h/.local/share/edgelstm/bin/edgelstm", "/bin/true"))
    done = subprocess.run(
        ["/usr/bin/systemd-analyze", "--user", "verify", str(file)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With the unit installed as its first lines say."""
    root = tmp_path_factory.mktemp("machine") / "root"
    make_root(root)
    write(root / "etc/sysusers.d/edgelstm.conf", (SETUP / "edgelstm.sysusers").read_text())
    write(root / DROP_INS / UNIT.name, UNIT.read_text())
    with booted(root) as machine:
        yield machine


STAND_IN = """
import ctypes, json, logging, mmap, os, sys, time
from pathlib import Path
import numpy as np
import edgelstm
from edgelstm.systemd import JournalHandler, Notifier, under_journal

def refused(call):
    try:
        call()
    except OSError as error:
        return error.errno
    return 0

log = logging.getLogger("stand-in")
log.addHandler(JournalHandler())
log.setLevel(logging.INFO)
notifier = Notifier()
outputs = []
for name in sys.argv[1:]:
    session = edgelstm.load(name)
    channels = len(session.artifact.manifest.channels)
    outputs.append([np.asarray(session.step(np.full(channels, 20.0))).tolist() for _ in range(50)])
status = dict(
    line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
)
report = {
    "outputs": outputs,
    "seconds": notifier.watchdog_seconds,
    "journal": under_journal(),
    "status": {name: status[name].strip() for name in ("Seccomp", "NoNewPrivs", "CapEff", "Uid")},
    "executable memory": refused(
        lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    ),
    "write /etc": refused(lambda: Path("/etc/x").write_text("x")),
    "write state": refused(lambda: Path(os.environ["STATE_DIRECTORY"], "x").write_text("x")),
    "write logs": refused(lambda: Path(os.environ["LOGS_DIRECTORY"], "x").write_text("x")),
    "home": refused(lambda: list(Path("/root").iterdir())),
}
log.info("report", extra={"journal": {"EDGELSTM_REPORT": json.dumps(report)}})
log.warning("two\\nlines", extra={"journal": {"EDGELSTM_SENSOR": "pump"}})
notifier.ready("stands in")

def feed_and_hang():
    for _ in range(8):
        time.sleep(0.25)
        notifier.watchdog()
    log.info("hangs")
    time.sleep(600)

feed_and_hang()
"""


@needs_machine
def test_the_sandbox_and_the_watchdog(machine: Machine) -> None:
    """A stand-in for the service looks around, and then hangs."""
    files = [f"/opt/source/tests/data/{name}.tflite" for name in ("tiny", "tiny_float")]
    write(machine.root / "etc/edgelstm/stand_in.py", STAND_IN)
    write(
        machine.root / DROP_INS / "edgelstm@stand-in.service.d/test.conf",
        "[Service]\nWatchdogSec=1\nRestartSec=100ms\nExecStart=\n"
        f"ExecStart=/opt/edgelstm/bin/python /etc/edgelstm/stand_in.py {' '.join(files)}\n",
    )
    machine.run("systemctl", "daemon-reload")
    unit = "edgelstm@stand-in.service"
    machine.run("systemctl", "start", unit)
    assert machine.show(unit, "StatusText") == "stands in"
    first = machine.show(unit, "MainPID")

    [entry] = map(json.loads, machine.log("LOGGER=stand-in", "MESSAGE=report").splitlines())
    assert entry["_SYSTEMD_UNIT"] == unit
    assert entry["SYSLOG_IDENTIFIER"] == "edgelstm"
    assert entry["PRIORITY"] == "6"
    assert entry["CODE_FILE"] == "/etc/edgelstm/stand_in.py"
    report = json.loads(entry["EDGELSTM_REPORT"])
    assert report["seconds"] == 1.0
    assert report["journal"] is True
    assert len(report["outputs"]) == 2
    assert np.isfinite(np.concatenate([np.ravel(each) for each in report["outputs"]])).all()
    status = report["status"]
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert int(status["CapEff"], 16) == 0
    assert "0" not in status["Uid"].split()
    assert report["executable memory"] != 0
    assert report["write /etc"] != 0
    assert report["home"] != 0
    assert (report["write state"], report["write logs"]) == (0, 0)
    [two] = map(json.loads, machine.log("EDGELSTM_SENSOR=pump", "LOGGER=stand-in").splitlines())
    assert (two["MESSAGE"], two["PRIORITY"]) == ("two\nlines", "4")

    machine.wait(lambda: int(machine.show(unit, "NRestarts")) > 0, "the watchdog")
    machine.wait(lambda: machine.show(unit, "MainPID") not in ("0", first), "another start")
    log = machine.log()
    assert f"{unit}: Watchdog timeout" in log
    assert "in feed_and_hang" in log  # what Python's fault handler writes
    machine.run("systemctl", "stop", unit)


class Device:
    """Sends lines of text over TCP, to one after the other who connects."""

    def __init__(self, port: int) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self.sent = 0
        self.paused = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._server.close()

    def _serve(self) -> None:
        self._server.settimeout(0.1)
        while not self._stop.is_set():
            try:
                client = self._server.accept()[0]
            except TimeoutError:
                continue
            with client:
                self._send(client)

    def _send(self, client: socket.socket) -> None:
        while not self._stop.wait(0.005):
            if self.paused:
                continue
            # What the model of tests/data/make_tiny.py knows, and a wild value now and then.
            t = self.sent
            wild = 500.0 if t % 400 > 360 else 0.0
            values = {"flow": 20 + 3 * np.sin(t / 8) + wild, "level": -5 + np.sin(t / 5 + 1)}
            try:
                client.sendall(json.dumps(values).encode() + b"\n")
            except OSError:
                return
            self.sent += 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def figure(port: int, name: str) -> float:
    """A figure of the only thing that has it."""
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", ask(port, "/metrics")[1], re.M)
    return float(found[1]) if found else float("nan")


CONFIGURATION = """
[sources.board]
port = "socket://127.0.0.1:{device}"
[sensors.pump]
artifact = "tiny.tflite"
rate = "any"
[sinks.journal]
type = "journal"
[metrics]
port = {metrics}
"""


@needs_machine
def test_the_service_from_start_to_stop(machine: Machine) -> None:
    """Started before its device is there, killed, reloaded, stopped."""
    device_port, port = free_port(), free_port()
    configuration = CONFIGURATION.format(device=device_port, metrics=port)
    write(machine.root / "etc/edgelstm/pump.toml", configuration)
    shutil.copy(DATA / "tiny.tflite", machine.root / "etc/edgelstm")
    write(
        machine.root / DROP_INS / "edgelstm@pump.service.d/test.conf",
        "[Service]\nRestartSec=100ms\n",
    )
    machine.run("systemctl", "daemon-reload")
    unit = "edgelstm@pump.service"
    machine.run("systemctl", "start", unit)
    assert machine.show(unit, "ActiveState") == "active"
    assert machine.show(unit, "StatusText")
    assert ask(port, "/healthz")[0] in (200, 503)

    with closing(Device(device_port)) as device:
        machine.wait(lambda: figure(port, "edgelstm_scored_total") > 500, "500 scores")
        assert ask(port, "/healthz")[0] == 200
        machine.wait(lambda: machine.log(f"MESSAGE_ID={MESSAGE_ID}"), "an alert in the journal")
        alert = json.loads(machine.log(f"MESSAGE_ID={MESSAGE_ID}").splitlines()[0])
        assert (alert["EDGELSTM_SENSOR"], alert["EDGELSTM_EVENT"]) == ("pump", "opened")
        assert alert["_SYSTEMD_UNIT"] == unit
        assert alert["PRIORITY"] in ("2", "4")

        before = figure(port, "edgelstm_readings_total")
        first = machine.show(unit, "MainPID")
        machine.run("systemctl", "reload", unit)
        machine.wait(lambda: figure(port, "edgelstm_reloads_total") == 1, "the reload")
        assert machine.show(unit, "ActiveState") == "active"
        assert machine.show(unit, "MainPID") == first
        assert figure(port, "edgelstm_readings_total") >= before
        assert figure(port, "edgelstm_reconnects_total") == 0
        device.paused = True
        # Of the first line after connecting nobody knows whether it is whole.
        machine.wait(
            lambda: figure(port, "edgelstm_readings_total") == device.sent - 1,
            "a reading during the reload",
            seconds=30,
        )
        device.paused = False

        machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit)
        machine.wait(lambda: machine.show(unit, "NRestarts") == "1", "another start")
        machine.wait(
            lambda: (
                machine.show(unit, "ActiveState") == "active"
                and figure(port, "edgelstm_scored_total") > before
            ),
            "more scores",
        )
        machine.run("systemctl", "stop", unit)
    assert machine.show(unit, "Result") == "success"
    assert machine.show(unit, "ExecMainStatus") == "0"
    state = machine.root / "var/lib/edgelstm/pump"
    assert (state / "outbox.sqlite3").exists()
    assert {path.stat().st_uid for path in state.iterdir()}.isdisjoint({0})


@needs_machine
def test_a_configuration_with_a_mistake(machine: Machine) -> None:
    """It is said in the journal, in a sentence, and tried again."""
    write(machine.root / "etc/edgelstm/wrong.toml", "[sensors.pump]\nartefact = 3\n")
    unit = "edgelstm@wrong.service"
    assert machine.run("systemctl", "start", unit, check=False).returncode != 0
    log = machine.run("journalctl", "-q", "-u", unit, "-o", "cat").stdout
    assert "did you mean 'artifact'?" in log
    assert "Traceback" not in log
    assert machine.show(unit, "ExecMainStatus") == "2"
    assert machine.show(unit, "SubState") == "auto-restart"
    machine.run("systemctl", "stop", unit)
