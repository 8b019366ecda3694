"""What is decided about a trial without any systemd."""

from __future__ import annotations

import json
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
from edgelstm_devices.agent.trial import previous_good
from edgelstm_devices.agent.watching import has_ended, is_wanted, read_health, silent_sensors


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 8}', "{}"])
def test_no_health_of_this_process(service: Service, text: str) -> None:
    service.health_file.write_text(text)
    assert read_health(service, "7") == {}
