"""What is decided about a trial without any systemd."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgelstm_devices import release
from edgelstm_devices.agent.context import AgentError
from edgelstm_devices.agent.layout import Layout, Service
from edgelstm_devices.agent.switching import (
    RELEASE_MARK,
    claimed,
    named_release,
    release_spec,
    unit_text,
)
from edgelstm_devices.agent.systemd import Systemd
from edgelstm_devices.agent.trial import previous_good
from edgelstm_devices.agent.watching import (
    Watch,
    has_ended,
    is_wanted,
    read_health,
    silent_sensors,
)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    found = Layout("system", tmp_path).service("pump")
    found.releases.mkdir(parents=True)
    found.unit_file = tmp_path / "edgelstm@pump.service"
    found.health_file = tmp_path / "health.json"
    return found


def history(service: Service, *entries: tuple[str, str, bool]) -> None:
    """Entries of what was tried, which release, and whether it was taken; the last one runs."""
    lines = []
    for what, name, committed in entries:
        (service.releases / name).mkdir(exist_ok=True)
        (service.releases / name / "release.json").write_text("{}")
        lines.append(json.dumps({"what": what, "release": name, "committed": committed}))
        if committed:
            service.current.unlink(missing_ok=True)
            service.current.symlink_to(f"releases/{name}")
    service.history.write_text("\n".join(lines) + "\n")


def test_the_mark_is_that_of_the_laptop() -> None:
    assert RELEASE_MARK == release.RELEASE_MARK


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ""),
        ([("deploy", "a", True)], ""),
        ([("deploy", "a", True), ("deploy", "b", True)], "a"),
        ([("deploy", "a", True), ("deploy", "x", False), ("deploy", "b", True)], "a"),
        ([("deploy", "a", True), ("deploy", "b", True), ("rollback", "a", True)], ""),
        (
            [(w, r, True) for w, r in (("deploy", "a"), ("deploy", "b"), ("deploy", "c"))]
            + [("rollback", "b", True)],
            "a",
        ),
        # What was rolled back to by name, and is not of the way that led here.
        ([("deploy", "b", True), ("rollback", "a", True)], "b"),
        ([("deploy", "a", True), ("deploy", "b", True), ("deploy", "a", True)], "b"),
    ],
)
def test_the_release_before(
    service: Service, entries: list[tuple[str, str, bool]], expected: str
) -> None:
    history(service, *entries)
    assert previous_good(service) == expected


def test_a_release_that_is_gone_is_passed_over(service: Service) -> None:
    history(service, ("deploy", "a", True), ("deploy", "b", True), ("deploy", "c", True))
    (service.releases / "b/release.json").unlink()
    assert previous_good(service) == "a"


def test_a_damaged_release(service: Service) -> None:
    (service.releases / "a").mkdir()
    (service.releases / "a/release.json").write_text("{")
    with pytest.raises(AgentError, match="not on the device, or damaged"):
        release_spec(service, "a")


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/opt/edgelstm/x", "/opt/edgelstm/x"),
        ("/home/ann b/100%", r"/home/ann\x20b/100%%"),
        ("/home/anné", r"/home/ann\xc3\xa9"),
    ],
)
def test_paths_in_units(folder: str, expected: str) -> None:
    text = unit_text({"unit": f"ExecStart={RELEASE_MARK}/run\n"}, Path(folder))
    assert text == f"ExecStart={expected}/run\n"


def test_the_release_that_a_unit_names(service: Service) -> None:
    spec = {"unit": f"ExecStart={RELEASE_MARK}/run\n"}
    assert named_release(service) == ""
    service.unit_file.write_text(unit_text(spec, service.current))
    assert named_release(service) == ""
    service.unit_file.write_text(unit_text(spec, service.release("r7")))
    assert named_release(service) == "r7"


def test_one_at_a_time(service: Service) -> None:
    with claimed(service) as claim:
        claim.note(release="a")
        with pytest.raises(AgentError, match="Another deployment of pump"), claimed(service):
            pass
    with claimed(service) as claim:
        assert claim.noted() == {"release": "a"}
        claim.note()
    with claimed(service) as claim:
        assert claim.noted() == {}


def test_what_is_uninstalled_meanwhile_cannot_be_claimed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        (service.folder / "trial.lock").unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(AgentError, match="nothing of pump on the device"), claimed(service):
        pass


def test_nobody_else_may_claim(service: Service) -> None:
    with claimed(service) as claim:
        assert claim.path.stat().st_mode & 0o777 == 0o600


def test_nothing_to_claim(tmp_path: Path) -> None:
    with (
        pytest.raises(AgentError, match="nothing of pump on the device"),
        claimed(Layout("system", tmp_path).service("pump")),
    ):
        pass


@pytest.mark.parametrize(
    ("active", "sub", "wanted", "ended"),
    [
        ("active", "running", True, False),
        ("activating", "start", True, False),
        ("activating", "auto-restart", True, True),
        ("failed", "failed", True, True),
        ("deactivating", "stop-sigterm", False, True),
        ("inactive", "dead", False, True),
    ],
)
def test_states(active: str, sub: str, wanted: bool, ended: bool) -> None:
    state = {"ActiveState": active, "SubState": sub}
    assert (is_wanted(state), has_ended(state)) == (wanted, ended)


def test_sensors_that_were_silent_before() -> None:
    def health(**states: str) -> dict[str, Any]:
        return {"sensors": {name: {"status": state} for name, state in states.items()}}

    assert silent_sensors({}) == frozenset()
    assert silent_sensors(health(a="ok", b="failing")) == {"b"}
    assert silent_sensors(health(a="failing", b="failing")) == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"pid": 8}',
        "{}",
        '{"pid": 7, "sensors": []}',
        '{"pid": 7, "sensors": {"a": {}}}',
        '{"pid": 7, "sensors": {"a": 1}}',
        '{"pid": 7, "sensors": {"a": {"status": "ok", "readings": "many"}}}',
        '{"pid": 7, "status": {}}',
        '{"pid": 7, "problems": [1]}',
        '{"pid": 7, "problems": 1}',
        '{"pid": 7, "x": ' + "[" * 100_000,
        '{"pid": 7, "x": "' + "y" * (1 << 20) + '"}',
    ],
    ids=range(14),
)
def test_no_health_of_this_process(service: Service, text: str) -> None:
    service.health_file.write_text(text)
    assert read_health(service, "7") == {}


def test_a_pipe_or_a_link_is_no_health_and_holds_up_nobody(service: Service) -> None:
    os.mkfifo(service.health_file)
    assert read_health(service, "7") == {}
    service.health_file.unlink()
    other = service.folder / "other"
    other.write_text('{"pid": 7}')
    service.health_file.symlink_to(other)
    assert read_health(service, "7") == {}
    other.replace(service.health_file)
    assert read_health(service, "7") == {"pid": 7}


def test_why_it_ended_is_told_without_a_journal(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    watch = Watch(Systemd(service.layout), service, "", lambda: True, 1.0)
    state = {"Result": "oom-kill", "ExecMainStatus": "9"}
    assert watch._why_ended(state) == "it needed more memory than there is"
