"""Trials that are cut off, at every stage and in every way: the release of before runs again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from systemd_machine import Machine, booted, why_not
from trial_rig import Trials, make_trial_root, unit

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

# What a release is at while the trial is at a stage, and the event that comes before it.
STAGES: dict[str, tuple[dict[str, Any], str]] = {
    "ready": ({"ready": False}, "starting"),
    "readings": ({"readings": False}, "ready"),
    "grace": ({}, "reading"),
}
LONG = {"ready_timeout": 60.0, "readings_timeout": 60.0, "grace": 60.0}
STEPS = 6


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine") / "root"
    make_trial_root(root)
    with booted(root) as machine:
        yield machine


@pytest.fixture
def trials(machine: Machine) -> Trials:
    return Trials(machine)


def served_by(trials: Trials, service: str, release: str) -> None:
    trials.machine.wait(lambda: trials.running(service) == release, f"{release} of {service}")
    assert trials.current(service) == release


def begun(trials: Trials, service: str, stage: str) -> str:
    """A trial of r2 that is at a stage, after r1 was taken; its unit."""
    assert trials.trial(trials.stage(service, "r1"), grace=0.0).result["committed"]
    plan, event = STAGES[stage]
    caller = trials.begin(trials.stage(service, "r2", **plan), **LONG)
    trials.reached(caller, event)
    if stage == "ready":
        trials.machine.wait(
            lambda: trials.machine.show(unit(service), "ActiveState") == "activating", "the start"
        )
    return caller


@pytest.mark.parametrize("stage", STAGES)
def test_the_caller_goes_away(trials: Trials, stage: str) -> None:
    service = f"gone-{stage}"
    caller = begun(trials, service, stage)
    trials.machine.run("touch", f"/run/gone-{service}")
    trials.machine.wait(lambda: trials.outcome(caller).result, "the answer")
    result = trials.outcome(caller).result
    assert "cancelled, or its connection" in result["reason"]
    assert result["restored"] == "active"
    served_by(trials, service, "r1")


def test_the_caller_goes_away_at_the_last_moment(trials: Trials) -> None:
    assert trials.trial(trials.stage("last", "r1"), grace=0.0).result["committed"]
    before = trials.traces("last")
    done = trials.trial(trials.stage("last", "r2"), grace=0.0, gone_at="healthy")
    assert done.whats[-3:] == ["healthy", "rolling back", "rolled back"]
    served_by(trials, "last", "r1")
    assert trials.traces("last") == before
    assert not (trials.folder("last") / ".current").is_symlink()
    done = trials.trial(trials.stage("unborn", "r1"), grace=0.0, gone_at="healthy")
    assert done.result["restored"] == "none"
    assert trials.traces("unborn") == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT"])
def test_the_session_ends(trials: Trials, stage: str, signal: str) -> None:
    service = f"{signal.lower()}-{stage}"
    caller = begun(trials, service, stage)
    trials.machine.run("systemctl", "kill", f"--signal={signal}", caller)
    trials.machine.wait(lambda: trials.outcome(caller).result, "the answer")
    assert trials.outcome(caller).result["restored"] == "active"
    served_by(trials, service, "r1")


@pytest.mark.parametrize("stage", STAGES)
def test_the_process_is_killed(trials: Trials, stage: str) -> None:
    """There is nobody but systemd to go back."""
    service = f"kill-{stage}"
    caller = begun(trials, service, stage)
    trials.machine.run("systemctl", "kill", "--signal=KILL", caller)
    served_by(trials, service, "r1")
    trials.machine.wait(lambda: len(trials.traces(service)) == 3, "the end of the guard")
    done = trials.call("settle", service=service)
    assert done.result == {"release": "r1", "what": "nothing"}
    last = trials.history(service)[-1]
    assert (last["release"], last["committed"]) == ("r2", False)
    assert "was cut off" in last["reason"]
    assert len(trials.history(service)) == 2
    assert trials.trial(trials.stage(service, "r3"), grace=0.0).result["committed"]


def test_the_process_and_the_guard_are_killed(trials: Trials) -> None:
    caller = begun(trials, "both", "grace")
    trials.machine.run("systemctl", "kill", "--signal=STOP", caller)
    # Without the line that does it, for systemd would run that even now.
    trials.machine.run("sh", "-c", "rm -f /run/systemd/transient/edgelstm-guard-both:*")
    trials.machine.run("systemctl", "daemon-reload")
    trials.machine.run("systemctl", "kill", "--signal=KILL", "edgelstm-guard-both:*", caller)
    served = trials.running("both")
    assert (served, trials.current("both")) == ("r2", "r1")
    done = trials.call("settle", service="both")
    assert done.result == {"release": "r1", "what": "went back"}
    served_by(trials, "both", "r1")
    assert trials.history("both")[-1]["committed"] is False


def test_the_process_hangs(trials: Trials) -> None:
    """Then its time is over at some point."""
    caller = begun(trials, "hangs", "grace")
    trials.machine.run("systemctl", "kill", "--signal=STOP", caller)
    guard = [name for name in trials.traces("hangs") if "guard" in name]
    assert float(trials.machine.show(guard[0], "RuntimeMaxUSec").removesuffix("s").split("min")[0])
    trials.machine.run("systemctl", "stop", guard[0])  # as when it is over
    served_by(trials, "hangs", "r1")
    trials.machine.run("systemctl", "kill", "--signal=CONT", caller)
    trials.machine.wait(lambda: trials.outcome(caller).result, "the answer")
    assert not trials.outcome(caller).result["committed"]
    served_by(trials, "hangs", "r1")


def test_a_first_release_is_cut_off(trials: Trials) -> None:
    caller = trials.begin(trials.stage("fresh", "r1"), **LONG)
    trials.reached(caller, "reading")
    trials.machine.run("systemctl", "kill", "--signal=KILL", caller)
    trials.machine.wait(lambda: not trials.traces("fresh"), "the end of it")
    assert trials.machine.show(unit("fresh"), "LoadState") == "not-found"
    assert (trials.running("fresh"), trials.current("fresh")) == ("", "")


def test_two_at_once(trials: Trials) -> None:
    caller = begun(trials, "twice", "grace")
    calls: dict[str, dict[str, Any]] = {
        "trial": {"spec": trials.stage("twice", "r3")},
        "rollback": {"service": "twice", "to": "r1"},
        "settle": {"service": "twice"},
    }
    for name, arguments in calls.items():
        assert "Another deployment of twice is going on" in trials.call(name, **arguments).error
    assert trials.running("twice") == "r2"
    trials.machine.run("systemctl", "stop", caller)
    served_by(trials, "twice", "r1")


def test_cut_off_between_two_steps_of_taking_it(tmp_path: Path) -> None:
    """Killed there, and the power goes afterwards: either release, but whole."""
    root = tmp_path / "root"
    make_trial_root(root)
    names = {after: f"step{after}" for after in range(STEPS)}
    with booted(root) as machine:
        trials = Trials(machine)
        for after, name in names.items():
            assert trials.trial(trials.stage(name, "r1"), grace=0.0).result["committed"]
            spec = trials.stage(name, "r2", {"TimeoutStopSec=30": "TimeoutStopSec=29"})
            assert not trials.trial(spec, grace=0.0, die_after=after).result
            fresh = trials.stage(f"new{after}", "r1")
            assert not trials.trial(fresh, grace=0.0, die_after=after).result
    # The second step is what counts.
    expected = {after: "r1" if after < 2 else "r2" for after in names}
    with booted(root) as machine:
        trials = Trials(machine)
        for after, name in names.items():
            machine.wait(lambda name=name: trials.running(name), f"{name} after boot")  # type: ignore[misc]
            assert trials.running(name) == expected[after], after
            stop = machine.show(unit(name), "TimeoutStopUSec")
            assert stop == ("30s" if after < 2 else "29s"), after
            if after < 2:
                assert machine.show(unit(f"new{after}"), "ActiveState") == "inactive", after
            else:
                machine.wait(lambda after=after: trials.running(f"new{after}"), "the first")  # type: ignore[misc]
            done = trials.call("settle", service=name)
            assert done.result["release"] == expected[after], (after, done)
            assert trials.current(name) == expected[after]
            last = trials.history(name)[-1]
            assert (last["release"], last["committed"]) == ("r2", after >= 2), after
            installed = (root / "etc/systemd/system" / unit(name)).read_text()
            assert "/current/" in installed
            assert "/releases/" not in installed
            assert trials.running(name) == expected[after]
            assert trials.trial(trials.stage(name, "r3"), grace=0.0).result["committed"]
            assert len(trials.traces(name)) == 3, trials.traces(name)


def test_the_power_goes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_trial_root(root)
    with booted(root) as machine:
        trials = Trials(machine)
        for stage in STAGES:
            begun(trials, f"power-{stage}", stage)
        machine.run("systemctl", "poweroff", "--force", "--force", check=False)
    with booted(root) as machine:
        trials = Trials(machine)
        for stage in STAGES:
            served_by(trials, f"power-{stage}", "r1")
            assert trials.call("settle", service=f"power-{stage}").result["what"] == "nothing"
            assert "was cut off" in trials.history(f"power-{stage}")[-1]["reason"]
