"""`prove` with a program in the place of edgelstm, which does what its files say."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_rig import OWN_WHEEL, PIP_WHEEL, a_release, a_runtime, own_wheel, pip_wheel

from edgelstm_devices.agent import proving
from edgelstm_devices.agent.context import AgentError, Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.proving import prove
from edgelstm_devices.agent.releases import stage
from edgelstm_devices.agent.runtimes import install_runtime

PROGRAM = """
import json, os, sys, time
def main():
    what = sys.argv[1]
    name = sys.argv[2] if what == "run" else sys.argv[-1]
    act = json.load(open(name)).get(what, {})
    if "folder" in act:
        open(os.path.join(os.environ[act["folder"]], "x"), "w").close()
    if "tell" in act:
        told = {"environ": dict(os.environ), "ids": [os.getuid(), os.getgid(), os.geteuid()],
                "groups": os.getgroups(), "folder": os.getcwd(), "umask": os.umask(0)}
        if "CREDENTIALS_DIRECTORY" in os.environ:
            told["credential"] = open(os.environ["CREDENTIALS_DIRECTORY"] + "/key").read()
        print(json.dumps(told))
    time.sleep(act.get("sleep", 0))
    if "abort" in act:
        os.abort()
    print(act.get("out", ""))
    print(act.get("err", ""), file=sys.stderr)
    sys.exit(act.get("code", 0))
"""
FINE = {"section": "runtimes", "name": "default", "level": "ok", "what": "fine", "mend": ""}
VERIFIED = json.dumps({"runtime": "litert 2.3.0", "runs": 3, "holds": True, "first": None})
FIRST = {"run": 2, "target": "level", "got": None, "expected": 10.5, "tolerance": 1}
FAILED = json.dumps({"runtime": "litert 2.3.0", "runs": 3, "holds": False, "first": FIRST})

WHERE = "first in run 2, target 'level': nan instead of 10.5 (tolerance 1)"


def doctor(*findings: dict[str, str]) -> dict[str, Any]:
    return {"out": json.dumps({"findings": [FINE, *findings]}), "code": 1 if findings else 0}


def problem(section: str) -> dict[str, str]:
    mend = "mend it"
    return {"section": section, "name": "x", "level": "problem", "what": "broken.", "mend": mend}


GOOD = {"doctor": doctor(), "verify": {"out": VERIFIED}}


@pytest.fixture(scope="module")
def device() -> Iterator[Layout]:
    """In a folder that everybody may look into, as /opt is."""
    folder = Path(tempfile.mkdtemp(prefix="device-"))
    folder.chmod(0o755)
    environ = {"HOME": str(folder), "XDG_RUNTIME_DIR": "/none"}
    layout = Layout("user", folder / "edgelstm", environ)
    try:
        runtime = a_runtime(layout, {PIP_WHEEL: pip_wheel(), OWN_WHEEL: own_wheel(PROGRAM)})
        install_runtime(Context(), layout=layout, runtime=runtime)
        yield layout
    finally:
        shutil.rmtree(folder)


def staged(device: Layout, check: dict[str, Any], *artifacts: dict[str, Any]) -> dict[str, Any]:
    """A release whose artifacts say what doctor and verify do, as its configuration for run."""
    shutil.rmtree(device.service("pump").releases, ignore_errors=True)
    runtime = a_runtime(device, {PIP_WHEEL: pip_wheel(), OWN_WHEEL: own_wheel(PROGRAM)})
    files = {"pump.toml": json.dumps({"run": check}).encode()}
    for number, acts in enumerate(artifacts):
        files[f"{number}.tflite"] = json.dumps(acts).encode()
    spec = a_release(device, runtime, files)
    stage(Context(), layout=device, spec=spec)
    return spec


def proved(device: Layout, check: dict[str, Any], *artifacts: dict[str, Any]) -> Any:
    spec = staged(device, check, *artifacts)
    return prove(Context(), layout=device, spec=spec)


def test_every_artifact_is_verified_and_the_configuration_tried(device: Layout) -> None:
    answer = proved(device, {"err": "pump.toml will do."}, GOOD, GOOD)
    assert [(one["what"], one["ok"], one["text"]) for one in answer] == [
        ("doctor", True, "No problem."),
        ("verify 0.tflite", True, "On litert 2.3.0 all 3 golden runs hold."),
        ("verify 1.tflite", True, "On litert 2.3.0 all 3 golden runs hold."),
        ("configuration", True, "pump.toml will do."),
    ]
    assert answer[0]["data"]["findings"] == [FINE]
    json.dumps(answer)


@pytest.mark.parametrize("section", ["ports", "edge tpu", "disk", "clock", "machine"])
def test_what_does_not_keep_it_from_running_does_not_count(device: Layout, section: str) -> None:
    [answer, *_] = proved(device, {}, {**GOOD, "doctor": doctor(problem(section))})
    assert answer["ok"]
    assert answer["text"] == "No problem that matters here; otherwise: x: broken."


@pytest.mark.parametrize("section", ["python", "runtimes", "artifact"])
def test_what_does_counts(device: Layout, section: str) -> None:
    findings = doctor(problem(section), problem("ports"))
    [answer, *_] = proved(device, {}, {**GOOD, "doctor": findings})
    assert not answer["ok"]
    assert answer["text"] == "x: broken. mend it"


def test_sections_are_those_of_the_doctor() -> None:
    from edgelstm.diagnosis import runtimes, software

    artifact = runtimes.artifact("x", "y", "", [])[0].section
    assert (software.SECTION, runtimes.SECTION, artifact) == proving.COUNTED


@pytest.mark.parametrize(
    ("acts", "ok", "text"),
    [
        ({"out": FAILED, "code": 1}, False, f"do not hold, {WHERE}."),
        ({"err": "x.tflite carries no golden vectors, so...", "code": 2}, True, "carries no"),
        ({"err": "a\nError: x.tflite is damaged.", "code": 2}, False, "a\nError: x.tflite is"),
        ({"abort": True}, False, "It ended with exit code -6 and said nothing."),
        ({"out": "half", "code": 0}, False, "half"),
    ],
)
def test_golden_vectors_must_hold_where_there_are_any(
    device: Layout, acts: dict[str, Any], ok: bool, text: str
) -> None:
    [_, answer, configuration] = proved(device, {"out": "will do"}, {**GOOD, "verify": acts})
    assert answer["ok"] is ok
    assert text in answer["text"]
    assert configuration["ok"]  # each is tried, whatever became of the others


def test_a_configuration_that_will_not_do_says_why(device: Layout) -> None:
    said = "\n".join(f"line {number}" for number in range(20))
    [*_, answer] = proved(device, {"err": said, "code": 2}, GOOD)
    assert not answer["ok"]
    assert answer["text"].splitlines() == [f"line {number}" for number in range(12, 20)]


def test_a_runtime_that_was_damaged_is_told_of_where_a_proof_fails(device: Layout) -> None:
    assert [one["ok"] for one in proved(device, {"code": 2}, GOOD)] == [True, True, False]
    spec = staged(device, {}, GOOD)
    program = device.runtimes / spec["runtime"]["id"] / "bin/edgelstm"
    whole = program.read_bytes()
    try:
        program.write_bytes(whole + b"(")
        answer = prove(Context(), layout=device, spec=spec)
        program.write_bytes(b"")
        with pytest.raises(AgentError, match="runtime is damaged"):
            prove(Context(), layout=device, spec=spec)
    finally:
        program.write_bytes(whole)
    assert (answer[-1]["what"], answer[-1]["ok"]) == ("runtime", False)
    assert f"{program} is not as it was installed; run there: rm -r /" in answer[-1]["text"]


def test_what_hangs_is_ended(device: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_CHECK_S", 0.5)
    [*_, answer] = proved(device, {"sleep": 3600}, GOOD)
    assert not answer["ok"]
    assert answer["text"].endswith("It did not end within 0 s.")


def test_whoever_goes_away_ends_it(device: Layout) -> None:
    class Gone(Context):
        def alive(self) -> bool:
            return False

    spec = staged(device, {}, {**GOOD, "doctor": {"sleep": 3600}})
    with pytest.raises(AgentError, match="went away"):
        prove(Gone(), layout=device, spec=spec)


def test_it_gets_a_clean_environment_and_folders_of_its_own(
    device: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOMETHING", "of the caller's")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    (tmp_path / "key").write_text("the secret")
    drop_in = device.units / "edgelstm@pump.service.d/secrets.conf"
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    load = f"LoadCredential=key:{tmp_path}/key"
    drop_in.write_text(f"[Service]\nEnvironment=BROKER=xyz\n{load}\n")
    try:
        spec = staged(device, {"tell": True, "folder": "STATE_DIRECTORY"}, GOOD)
        [*_, answer] = prove(Context(), layout=device, spec=spec)
    finally:
        drop_in.unlink()
    assert answer["ok"]
    told = json.loads(answer["text"])
    environ, temporary = told["environ"], told["environ"]["TMPDIR"]
    assert environ.keys() & {"SOMETHING", "PYTHONPATH"} == set()
    assert environ["BROKER"] == "xyz"
    assert told["credential"] == "the secret"
    for name in ("STATE_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY"):
        assert environ[name].startswith(f"{temporary}/")
    assert not Path(temporary).exists()


def test_what_only_systemd_can_read_is_left_to_it(device: Layout) -> None:
    drop_in = device.units / "edgelstm@pump.service.d/secrets.conf"
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text("[Service]\nLoadCredentialEncrypted=key\n")
    try:
        [*_, answer] = proved(device, {"code": 2}, GOOD)
    finally:
        drop_in.unlink()
    assert answer["ok"]
    assert "Left to the trial: the unit has LoadCredentialEncrypted=" in answer["text"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_of_the_machines_services_it_is_done_as_their_user(device: Layout) -> None:
    layout = Layout("system", device.root)
    layout.user = "nobody"
    spec = staged(device, {"tell": True, "folder": "STATE_DIRECTORY"}, GOOD)
    before = os.umask(0o077)
    try:
        answers = prove(Context(), layout=layout, spec=spec)
    finally:
        os.umask(before)
    assert [answer["ok"] for answer in answers] == [True, True, True]
    told = json.loads(answers[-1]["text"])
    assert told["ids"] == [65534, 65534, 65534]
    assert 0 not in told["groups"]
    assert told["folder"] == told["environ"]["TMPDIR"]
    assert told["umask"] == 0o077
    layout.user = "nobody-of-this-name"
    with pytest.raises(AgentError, match="has no user nobody-of-this-name"):
        prove(Context(), layout=layout, spec=spec)
