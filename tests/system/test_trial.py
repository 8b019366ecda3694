"""Releases on trial, under systemd itself: which are taken, and what is told of those that are not.

The services are stand-ins, but for one; see `trial_rig`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from systemd_machine import PROJECT, Machine, booted, why_not, write
from trial_rig import Trials, make_trial_root, unit

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

DATA = PROJECT / "tests/data"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine") / "root"
    make_trial_root(root)
    with booted(root) as machine:
        yield machine


@pytest.fixture
def trials(machine: Machine) -> Trials:
    return Trials(machine)


def test_the_first_release_and_an_update(trials: Trials) -> None:
    done = trials.trial(trials.stage("good", "r1"))
    assert done.whats == ["starting", "ready", "reading", "healthy", "committed"], done
    assert done.result["committed"]
    assert (done.result["release"], done.result["previous"]) == ("r1", "")
    assert (done.result["reason"], done.result["restored"]) == ("", "")
    assert (trials.running("good"), trials.current("good")) == ("r1", "r1")
    installed = trials.machine.root / "etc/systemd/system" / unit("good")
    assert "/services/good/current/good.toml" in installed.read_text()
    assert trials.traces("good") == [
        f"/etc/systemd/system/{unit('good')}",
        f"/etc/systemd/system/multi-user.target.wants/{unit('good')}",
        "/run/edgelstm/good",
    ]

    process = trials.machine.show(unit("good"), "MainPID")
    done = trials.trial(trials.stage("good", "r2"))
    assert done.result["committed"]
    assert done.result["previous"] == "r1"
    assert (trials.running("good"), trials.current("good")) == ("r2", "r2")
    assert trials.machine.show(unit("good"), "MainPID") != process
    assert [entry["release"] for entry in trials.history("good")] == ["r1", "r2"]


def test_what_is_taken_goes_on_and_is_looked_after(trials: Trials) -> None:
    """The process that was proved is the one that serves, and systemd starts it again."""
    caller = trials.begin(trials.stage("after", "r1", {"WatchdogSec=30": "WatchdogSec=1"}))
    trials.reached(caller, "healthy")
    process = trials.machine.show(unit("after"), "MainPID")
    trials.reached(caller, "committed")
    trials.machine.wait(lambda: trials.outcome(caller).result, "the answer")
    assert trials.machine.show(unit("after"), "MainPID") == process
    assert trials.machine.show(unit("after"), "NeedDaemonReload") == "no"
    assert trials.machine.show(unit("after"), "UnitFileState") == "enabled"
    assert trials.machine.show(unit("after"), "Restart") == "on-failure"
    units = trials.machine.root / "etc/systemd/system"
    link = (units / "multi-user.target.wants" / unit("after")).readlink()
    assert str(link) == f"/etc/systemd/system/{unit('after')}"

    trials.machine.run("systemctl", "kill", "--signal=KILL", unit("after"))
    trials.machine.wait(lambda: trials.running("after") == "r1", "another start")
    process = trials.machine.show(unit("after"), "MainPID")
    trials.machine.run("kill", "-STOP", process)
    trials.machine.wait(
        lambda: trials.machine.show(unit("after"), "MainPID") not in ("0", process), "the watchdog"
    )
    trials.machine.wait(lambda: trials.running("after") == "r1", "another start")
    assert trials.trial(trials.stage("after", "r2")).result["committed"]
    trials.machine.run("systemctl", "disable", unit("after"))
    assert trials.machine.show(unit("after"), "UnitFileState") == "disabled"


NEVER = {"TimeoutStartSec=120": "TimeoutStartSec=1"}
BAD: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "crash": ({"exit": 5, "say": "no pump here"}, {}, "exit status 5: no pump here"),
    "clean": ({"exit": 0}, {}, "it ended by itself before it was ready"),
    "program": (
        {},
        {"/runtime/bin/edgelstm": "/runtime/bin/nothing"},
        "203, its program cannot be run",
    ),
    "never": ({"ready": False, "stubborn": True}, NEVER, "did not get ready"),
    "deaf": ({"readings": False, "problems": ["no cable"]}, {}, "from pump within 3 s (no cable)"),
    "late": ({"ends_after": 1.0}, {}, "it ended with exit status 7: that was it"),
    "killed": ({"dies_after": 1.0}, {}, "it was ended by SIGSEGV"),
    "failing": ({"fails_after": 0.8}, {}, "pump is failing: it hums"),
    "hung": ({"hangs_after": 0.5}, {}, "did not write /run/edgelstm/"),
    "wordless": ({"health": False}, {}, "did not write /run/edgelstm/"),
    "stranger": ({"pid": 1}, {}, "did not write /run/edgelstm/"),
    "unit": ({}, {"ExecStart=": "ExecStop="}, "systemctl restart"),
    "dog": ({"ready": True}, {"WatchdogSec=30": "WatchdogSec=10ms"}, "the watchdog ended it"),
}


def test_a_release_that_ends_while_the_card_takes_its_time(trials: Trials) -> None:
    assert trials.trial(trials.stage("card", "r1"), grace=0.0).result["committed"]
    spec = trials.stage("card", "r2", ends_after=2.5)
    done = trials.trial(spec, grace=0.5, slow_card=3.0)
    assert not done.result["committed"], done
    assert "it ended with exit status 7" in done.result["reason"]
    assert (trials.running("card"), trials.current("card")) == ("r1", "r1")
    assert not [name for name in trials.traces("card") if "/." in name]


def test_a_release_that_ends_just_when_it_was_taken_is_started_again(trials: Trials) -> None:
    done = trials.trial(trials.stage("just", "r1", ends_after=2.0), grace=0.5, slow_end=2.5)
    assert done.result["committed"], done
    trials.machine.wait(lambda: trials.running("just") == "r1", "another start")
    trials.machine.run("systemctl", "stop", unit("just"))


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_release_gives_way_to_the_one_before(trials: Trials, kind: str) -> None:
    plan, changes, reason = BAD[kind]
    service = f"bad-{kind}"
    assert trials.trial(trials.stage(service, "r1"), grace=0.0).result["committed"]
    installed = trials.machine.root / "etc/systemd/system" / unit(service)
    before = installed.read_text()

    times = {"grace": 60.0 if "hangs_after" in plan else 2.5, "silence": 1.5}
    done = trials.trial(trials.stage(service, "r2", changes, **plan), **times)
    assert not done.result["committed"]
    assert reason in done.result["reason"]
    assert done.result["reason"].startswith("The new release was not taken: ")
    assert done.result["restored"] == "active"
    assert done.whats[-2:] == ["rolling back", "rolled back"]
    if kind not in ("unit", "program"):
        assert any("here is r2" in line for line in done.result["journal"])
    assert (trials.running(service), trials.current(service)) == ("r1", "r1")
    assert trials.machine.show(unit(service), "NRestarts") == "0"
    assert trials.machine.show(unit(service), "NeedDaemonReload") == "no"
    assert installed.read_text() == before
    assert trials.traces(service) == [
        f"/etc/systemd/system/{unit(service)}",
        f"/etc/systemd/system/multi-user.target.wants/{unit(service)}",
        f"/run/edgelstm/{service}",
    ]
    last = trials.history(service)[-1]
    assert (last["release"], last["committed"], last["restored"]) == ("r2", False, "active")
    assert last["reason"] == done.result["reason"]
    trials.machine.run("systemctl", "stop", unit(service))


@pytest.mark.parametrize("kind", ["crash", "never", "deaf"])
def test_of_a_first_release_that_is_bad_nothing_is_left(trials: Trials, kind: str) -> None:
    plan, changes, reason = BAD[kind]
    service = f"first-{kind}"
    done = trials.trial(trials.stage(service, "r1", changes, **plan))
    assert reason in done.result["reason"]
    assert done.result["restored"] == "none"
    assert (trials.running(service), trials.current(service)) == ("", "")
    assert trials.traces(service) == []
    assert trials.machine.show(unit(service), "LoadState") == "not-found"
    assert trials.machine.show(unit(service), "ActiveState") == "inactive"


def test_no_readings_are_asked_of_a_release_that_need_not_get_any(trials: Trials) -> None:
    spec = trials.stage("quiet", "r1", readings=False, failing=["pump"], expect_readings=False)
    done = trials.trial(spec)
    assert done.result["committed"]
    assert "reading" not in done.whats


def test_a_sensor_that_was_silent_before_may_stay_so(trials: Trials) -> None:
    sensors: dict[str, Any] = {"sensors": ["pump", "tank"]}
    spec = trials.stage("half", "r1", **sensors, silent=["tank"], failing=["tank"])
    assert "no reading came from tank" in trials.trial(spec).result["reason"]
    assert trials.trial({**spec, "expect_readings": False}).result["committed"]
    done = trials.trial(trials.stage("half", "r2", **sensors, silent=["tank"], failing=["tank"]))
    assert done.result["committed"]
    [reading] = [event for event in done.events if event["what"] == "reading"]
    assert reading["excused"] == ["tank"]
    # Of all of them it may not be: then nothing would be proved.
    spec = trials.stage("half", "r3", **sensors, silent=["pump", "tank"])
    assert "no reading came from pump within" in trials.trial(spec).result["reason"]


def test_what_did_not_run_before_does_not_run_after(trials: Trials) -> None:
    assert trials.trial(trials.stage("stopped", "r1")).result["committed"]
    trials.machine.run("systemctl", "stop", unit("stopped"))
    done = trials.trial(trials.stage("stopped", "r2", exit=3))
    assert done.result["restored"] == "stopped"
    assert trials.machine.show(unit("stopped"), "ActiveState") == "inactive"
    assert trials.current("stopped") == "r1"
    assert trials.trial(trials.stage("stopped", "r3")).result["committed"]
    assert trials.running("stopped") == "r3"


def test_one_before_that_fails_as_well(trials: Trials) -> None:
    assert trials.trial(trials.stage("worse", "r1")).result["committed"]
    trials.stage("worse", "r1", exit=4)
    trials.machine.run("systemctl", "restart", unit("worse"), check=False)
    done = trials.trial(trials.stage("worse", "r2", exit=3), ready_timeout=2.0)
    assert "exit status 3" in done.result["reason"]
    assert done.result["restored"] == "failed"
    # It is tried again and again, as before.
    trials.stage("worse", "r1")
    trials.machine.wait(lambda: trials.running("worse") == "r1", "another start")
    assert trials.trial(trials.stage("worse", "r3")).result["committed"]


def test_a_unit_installed_by_hand_comes_back(trials: Trials) -> None:
    """There is no `current` then, but something that runs."""
    spec = trials.stage("hand", "r0")
    folder = trials.folder("hand") / "releases/r0"
    text = spec["unit"].replace("@RELEASE@", "/" + str(folder.relative_to(trials.machine.root)))
    (trials.machine.root / "etc/systemd/system/edgelstm@.service").write_text(
        text.replace("hand.toml", "%i.toml")
    )
    trials.machine.run("systemctl", "daemon-reload")
    trials.machine.run("systemctl", "start", unit("hand"))
    done = trials.trial(trials.stage("hand", "r1", exit=3))
    assert (done.result["restored"], done.result["previous"]) == ("active", "")
    assert (trials.running("hand"), trials.current("hand")) == ("r0", "")
    assert trials.trial(trials.stage("hand", "r2")).result["committed"]
    assert trials.running("hand") == "r2"
    (trials.machine.root / "etc/systemd/system/edgelstm@.service").unlink()
    trials.machine.run("systemctl", "daemon-reload")


def test_somebody_starts_it_again_meanwhile(trials: Trials) -> None:
    """What is proved then is another process than the one that was tried."""
    assert trials.trial(trials.stage("meddled", "r1"), grace=0.0).result["committed"]
    caller = trials.begin(trials.stage("meddled", "r2"), grace=60.0)
    trials.reached(caller, "reading")
    trials.machine.run("systemctl", "restart", unit("meddled"))
    trials.machine.wait(lambda: trials.outcome(caller).result, "the answer")
    result = trials.outcome(caller).result
    assert "somebody else started or stopped it" in result["reason"]
    assert result["restored"] == "active"
    trials.machine.wait(lambda: trials.running("meddled") == "r1", "the one before")


def test_back_to_earlier_releases(trials: Trials) -> None:
    for release in ("r1", "r2", "r3"):
        assert trials.trial(trials.stage("back", release), grace=0.0).result["committed"]
    times: dict[str, Any] = {"grace": 0.0, "readings_timeout": 3.0}
    done = trials.call("rollback", service="back", **times)
    assert (done.result["release"], done.result["previous"]) == ("r2", "r3")
    assert (trials.running("back"), trials.current("back")) == ("r2", "r2")
    # A second time it goes further back, not to what it came from.
    assert trials.call("rollback", service="back", **times).result["release"] == "r1"
    assert "no earlier release of back" in trials.call("rollback", service="back").error
    assert trials.call("rollback", service="back", to="r3", **times).result["committed"]
    assert trials.running("back") == "r3"
    assert (
        "r9 of back is not on the device" in trials.call("rollback", service="back", to="r9").error
    )
    # One that does well no longer is not taken either.
    trials.stage("back", "r2", exit=3)
    done = trials.call("rollback", service="back", to="r2", **times)
    assert done.result["restored"] == "active"
    assert (trials.running("back"), trials.current("back")) == ("r3", "r3")


def test_a_full_disk_when_it_is_taken(trials: Trials) -> None:
    assert trials.trial(trials.stage("full", "r1"), grace=0.0).result["committed"]
    small = 'mount -t tmpfs -o size=4k,nr_inodes=3 none /etc/systemd/system && exec "$@"'
    done = trials.trial(trials.stage("full", "r2"), "unshare", "-m", "sh", "-c", small, "sh")
    assert (
        "No space left on device" in done.result["reason"]
        or "disk is full" in (done.result["reason"])
    )
    assert done.result["restored"] == "active"
    assert (trials.running("full"), trials.current("full")) == ("r1", "r1")


def test_a_full_disk_before(trials: Trials) -> None:
    assert trials.trial(trials.stage("brim", "r1"), grace=0.0).result["committed"]
    spec = trials.stage("brim", "r2")
    process = trials.machine.show(unit("brim"), "MainPID")
    small = (
        "cp -a /opt/edgelstm/services/brim /tmp/ && "
        "mount -t tmpfs -o size=64k none /opt/edgelstm/services/brim && "
        "cp -a /tmp/brim /opt/edgelstm/services/ && "
        '(cat /dev/zero > /opt/edgelstm/services/brim/zeros || true) 2>/dev/null; exec "$@"'
    )
    done = trials.trial(spec, "unshare", "-m", "sh", "-c", small, "sh")
    assert "disk is full" in done.error
    assert trials.machine.show(unit("brim"), "MainPID") == process
    assert trials.running("brim") == "r1"


CONFIGURATION = """
[sources.board]
port = "socket://127.0.0.1:{port}"
[sensors.pump]
artifact = "tiny.tflite"
rate = "any"
"""


@pytest.fixture
def board() -> Iterator[int]:
    """A board that sends readings to whoever connects to a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    client = server.accept()[0]
                except TimeoutError:
                    continue
                with client, contextlib.suppress(OSError):
                    while not stop.wait(0.01):
                        client.sendall(b'{"flow": 20.0, "level": -5.0}\n')

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()


def test_the_real_service(trials: Trials, board: int) -> None:
    def staged(release: str, port: int) -> dict[str, Any]:
        spec = trials.stage("pump", release)
        folder = trials.folder("pump") / "releases" / release
        (folder / "pump.toml").write_text(CONFIGURATION.format(port=port))
        shutil.copy(DATA / "tiny.tflite", folder)
        command = '#!/bin/sh\nexec /opt/edgelstm/bin/python -m edgelstm "$@"\n'
        write(folder / "runtime/bin/edgelstm", command, 0o755)
        return spec

    times: dict[str, Any] = {"ready_timeout": 60.0, "readings_timeout": 20.0, "silence": 20.0}
    done = trials.trial(staged("r1", board), **times)
    assert done.result["committed"], done
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # connects, and sends nothing
        done = trials.trial(
            staged("r2", nobody.getsockname()[1]), **{**times, "readings_timeout": 3.0}
        )
    assert "no reading came from pump within 3 s" in done.result["reason"]
    assert done.result["restored"] == "active"
    assert trials.current("pump") == "r1"
    health = json.loads(trials.machine.run("cat", "/run/edgelstm/pump/health.json").stdout)
    assert str(health["pid"]) == trials.machine.show(unit("pump"), "MainPID")
    trials.machine.run("systemctl", "stop", unit("pump"))
