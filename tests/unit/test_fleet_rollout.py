from __future__ import annotations

import ast
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import ConfigurationError, DeploymentError
from edgelstm_devices.fleet import COLLECTIONS, FleetOptions, FleetResult, HostResult, Wish
from edgelstm_devices.fleet.choosing import host_choice
from edgelstm_devices.fleet.outcome import Progress, failure, settled, unreachable
from edgelstm_devices.fleet.playbooks import Playbooks, environment
from edgelstm_devices.fleet.survey import Survey
from edgelstm_devices.planning import Choice
from edgelstm_devices.shipment import Options

COLLECTION = COLLECTIONS / "ansible_collections/edgelstm/edgelstm"
NEW, OLD = "20261121-053012-3f2a9c1b", "20261101-101010-aaaaaaaa"


def event(kind: str, host: str = "", task: str = "", **answer: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": host, "task": task, "res": answer}}


def rolled(*events: dict[str, Any], hosts: str = "abc") -> tuple[dict[str, HostResult], list[str]]:
    progress = Progress(list(hosts), dict.fromkeys(hosts, NEW))
    lines = [line for one in events for line in progress.hear(one)]
    return {one.host: one for one in progress.finish()}, lines


def test_a_rollout_that_stops_after_its_first_batch() -> None:
    results, lines = rolled(
        event("playbook_on_play_start"),
        *(event("runner_on_start", host, "Look at the device") for host in "ab"),
        event("runner_on_ok", "a", "Compare", missing=["1", "2"], serves=False),
        event("runner_on_ok", "b", "Compare", missing=[], serves=False),
        *(event("runner_on_start", host, "Prove and switch") for host in "ab"),
        event("runner_on_failed", "b", "Prove and switch", msg="verify pump: 3 of 100 differ."),
        event("runner_on_ok", "a", "Prove and switch", answer={"committed": True}),
    )
    assert results == {
        "a": HostResult("a", "new", NEW),
        "b": HostResult("b", "unknown", "", "verify pump: 3 of 100 differ"),
        "c": HostResult("c", "untouched"),
    }
    assert lines == [
        "Batch 1:",
        "a: 2 files to send",
        "a: it is proved there",
        "b: it is proved there",
        "b: verify pump: 3 of 100 differ",
        "a: the new release serves, and was proved",
    ]


def test_a_host_that_serves_it_already_is_not_proved_again() -> None:
    results, lines = rolled(
        event("playbook_on_play_start"),
        event("runner_on_start", "a", "Compare"),
        event("runner_on_ok", "a", "Compare", missing=[], serves=True, release=OLD),
        event("runner_on_start", "a", "Prove and switch"),
        event("runner_on_skipped", "a", "Prove and switch"),
        hosts="a",
    )
    # Of the same content, which was made before.
    assert results == {"a": HostResult("a", "same", OLD)}
    assert lines == ["Batch 1:", "a: the release serves already"]


def test_every_batch_is_told_once() -> None:
    _, lines = rolled(
        event("playbook_on_play_start"),
        event("runner_on_start", "a", "Compare"),
        event("runner_on_start", "a", "Trust keys"),
        event("playbook_on_play_start"),
        event("runner_on_start", "b", "Compare"),
    )
    assert lines == ["Batch 1:", "Batch 2:"]


def test_a_host_that_was_begun_and_never_ended_was_interrupted() -> None:
    results, _ = rolled(
        event("playbook_on_play_start"), event("runner_on_start", "a", "Prove and switch")
    )
    assert results["a"] == HostResult("a", "unknown", "", "it was interrupted")
    assert results["b"].state == "untouched"


def test_an_unreachable_host_says_what_ssh_said() -> None:
    said = "Task failed: Failed to connect to the host via ssh: Host key verification failed."
    results, _ = rolled(
        event("playbook_on_play_start"), event("runner_on_unreachable", "a", "Compare", msg=said)
    )
    assert results["a"].reason == "it cannot be reached: Host key verification failed"


def service(active: str, release: str, trial: str = "") -> dict[str, Any]:
    told = {"name": "pump", "release": release, "unit": {"active": active}, "trial": trial}
    return {"services": [told]}


@pytest.mark.parametrize(
    ("status", "state", "release"),
    [
        (service("active", OLD), "old", OLD),
        (service("active", NEW), "new", NEW),
        (service("failed", NEW), "none", ""),
        ({"services": []}, "none", ""),
        ({"services": [{"name": "fan", "release": OLD, "unit": None, "trial": ""}]}, "none", ""),
        (None, "unknown", ""),
    ],
)
def test_what_serves_is_what_the_device_says_afterwards(
    status: dict[str, Any] | None, state: str, release: str
) -> None:
    seen = HostResult("a", "unknown", "", "it never got ready")
    after = settled(seen, status, "pump", NEW)
    assert (after.state, after.release, after.reason) == (state, release, "it never got ready")
    assert not after.good


def test_a_release_that_is_still_on_trial_is_told() -> None:
    after = settled(HostResult("a", "unknown", "", "cut"), service("active", OLD, NEW), "pump", NEW)
    assert (after.state, after.reason) == ("unknown", f"cut; the release {NEW} is on trial there")


def test_a_host_that_was_not_begun_stays_so_with_what_serves_there() -> None:
    after = settled(HostResult("a", "untouched"), service("active", OLD), "pump", NEW)
    assert after == HostResult("a", "untouched", OLD)


def test_the_table() -> None:
    result = FleetResult(
        (
            HostResult("pump-1", "new", NEW),
            HostResult("pump-22", "old", OLD, "it never got ready"),
            HostResult("pump-3", "untouched", OLD),
            HostResult("pump-4", "none", "", "no space left on device"),
            HostResult("pump-5", "new", NEW, "it cannot be reached"),
        )
    )
    assert result.lines() == [
        f"pump-1   {NEW}  the new release serves, and was proved",
        f"pump-22  {OLD}  an older release serves: it never got ready",
        f"pump-3   {OLD}  not begun",
        "pump-4   -                         nothing serves: no space left on device",
        f"pump-5   {NEW}  the new release serves, and was proved: it cannot be reached",
        "2 of 5 hosts serve it.",
    ]
    assert not result.good
    assert FleetResult((HostResult("a", "new", NEW), HostResult("b", "same", NEW))).good
    assert not FleetResult(()).good


def test_the_table_of_hosts_that_were_only_looked_at() -> None:
    result = FleetResult((HostResult("a", "ready"), HostResult("b", "untouched", "", "disk full")))
    assert result.lines() == [
        "a  -  ready for it",
        "b  -  not begun: disk full",
        "1 of 2 hosts are ready for it.",
    ]
    assert not result.good
    assert FleetResult(result.hosts[:1]).good
    none = FleetResult(result.hosts[1:], changed=False)
    assert none.lines()[-1] == "Nothing was changed on any host."


def test_a_host_that_ansible_did_not_come_to_is_not_fit() -> None:
    survey = Survey()
    survey.hear(event("runner_on_start", "a", "Look at the device"))
    survey.hear(event("runner_on_ok", "a", "Look at the device", facts={}))
    survey.hear(event("runner_on_unreachable", "b", "Look at the device", msg="no route"))
    for host, why in (("a", "ended before it was looked at"), ("b", "no route")):
        with pytest.raises(DeploymentError, match=why):
            survey.wish(host)


@pytest.mark.parametrize("name", ["facts", "rollout", "status"])
def test_settings_of_ansible_do_not_end_a_batch_in_the_middle(name: str) -> None:
    play = (COLLECTION / f"playbooks/{name}.yml").read_text().splitlines()
    assert "  any_errors_fatal: false" in play
    # With `free`, a host that is done has the next batch begin while others still work.
    assert name != "rollout" or "  strategy: ansible.builtin.linear" in play


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"msg": "No space left\non the device."}, "No space left on the device"),
        (
            {
                "msg": "MODULE FAILURE: see stdout/stderr",
                "module_stderr": "Shared connection to 127.0.0.1 closed.\r\n",
                "module_stdout": 'Traceback (most recent call):\r\n  File "x"\r\nOSError: no\r\n',
            },
            "OSError: no",
        ),
        (
            {
                "msg": "Module result deserialization failed: No start of json char found",
                "module_stdout": "/bin/sh: 1: /usr/bin/python3: not found\r\n",
            },
            "/bin/sh: 1: /usr/bin/python3: not found",
        ),
        (
            {
                "msg": "One or more items failed",
                "results": [{"item": "1"}, {"item": "2", "failed": True, "msg": "disk full"}],
            },
            "disk full",
        ),
        ({}, "Ansible does not say why"),
    ],
)
def test_why_a_task_failed(answer: dict[str, Any], said: str) -> None:
    assert failure(answer) == said


def test_an_unreachable_host_without_words() -> None:
    assert unreachable({}) == "it cannot be reached"


@pytest.mark.parametrize("size", ["1", "10%", "100%", "250"])
def test_batches_that_there_are(size: str) -> None:
    assert FleetOptions(batch=("1", size)).batch == ("1", size)


@pytest.mark.parametrize("size", ["0", "0%", "101%", "-1", "10 %", "half", "", "1.5"])
def test_batches_that_there_are_not(size: str) -> None:
    with pytest.raises(ConfigurationError, match=r"neither a number of hosts nor a share"):
        FleetOptions(batch=(size,))


def test_no_batch_at_all() -> None:
    with pytest.raises(ConfigurationError, match="no size of a batch"):
        FleetOptions(batch=())


def test_host_keys_are_checked_whatever_the_environment_says() -> None:
    told = environment({"ANSIBLE_HOST_KEY_CHECKING": "False", "PATH": "/usr/bin"})
    assert told["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert told["PATH"].endswith(os.pathsep + "/usr/bin")


def test_the_users_own_collections_are_found_as_well() -> None:
    assert environment({"ANSIBLE_COLLECTIONS_PATH": "/mine"})["ANSIBLE_COLLECTIONS_PATH"] == (
        f"{COLLECTIONS}:/mine"
    )


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="There is no inventory"):
        Playbooks(tmp_path / "hosts.ini")


def test_the_collection_has_the_agents_modules() -> None:
    agent = COLLECTION / "plugins/module_utils/agent"
    assert (agent / "layout.py").samefile(COLLECTIONS.parent / "agent/layout.py")


def test_the_module_sends_every_module_that_has_a_call() -> None:
    """Ansible sends what it sees imported, and the calls import by name."""
    from edgelstm_devices.agent.serve import CALLS

    source = (COLLECTION / "plugins/modules/release.py").read_text()
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).endswith(".agent")
        for alias in node.names
    }
    assert imported == set(CALLS.values())


def chosen(choice: Choice, **wanted: str) -> tuple[str, str, str, str | None, str]:
    own = host_choice(choice, Wish("a", {}, (0.0, 1.0), **wanted))
    return str(own.source), own.service, own.mode, own.port, own.profile


FOR_ALL = Choice(Path("pump.tflite"), options=Options(port="/dev/ttyACM0"), profile="pi4")


@pytest.mark.parametrize(
    ("wanted", "gets"),
    [
        ({}, ("pump.tflite", "pump", "system", "/dev/ttyACM0", "pi4")),
        ({"name": "north"}, ("pump.tflite", "north", "system", "/dev/ttyACM0", "pi4")),
        ({"port": "/dev/ttyUSB0"}, ("pump.tflite", "pump", "system", "/dev/ttyUSB0", "pi4")),
        ({"mode": "user"}, ("pump.tflite", "pump", "user", "/dev/ttyACM0", "pi4")),
        ({"profile": "pi3"}, ("pump.tflite", "pump", "system", "/dev/ttyACM0", "pi3")),
        ({"source": "fan.tflite"}, ("fan.tflite", "fan", "system", "/dev/ttyACM0", "pi4")),
    ],
)
def test_the_inventory_wins_over_what_is_for_all(
    wanted: dict[str, str], gets: tuple[str, ...]
) -> None:
    assert chosen(FOR_ALL, **wanted) == gets


def test_a_service_that_was_named_keeps_its_name_with_another_source() -> None:
    named = replace(FOR_ALL, service="watch")
    assert chosen(named, source="fan.tflite")[:2] == ("fan.tflite", "watch")


def test_a_mode_that_there_is_not() -> None:
    with pytest.raises(ConfigurationError, match="edgelstm_mode=root; write system or user"):
        chosen(FOR_ALL, mode="root")
