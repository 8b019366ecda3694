"""The order of a deployment, against a device that answers what it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from edgelstm.errors import ConfigurationError, DeploymentError, SignatureError
from edgelstm.keys import PrivateKey, write_new_keys
from edgelstm.signing import sign
from edgelstm_devices.bundle import Bundle
from edgelstm_devices.deploying import Deployment, Timing
from edgelstm_devices.planning import Choice, ReleasePlan, keys_for_device
from edgelstm_devices.release import ReleaseSpec, RuntimeSpec, StoredFile
from edgelstm_devices.remote import Remote

GOOD = [{"what": "doctor", "ok": True, "text": "No problem."}]
BAD = [*GOOD, {"what": "verify", "ok": False, "text": "another number"}]
COMMITTED, BACK = {"committed": True}, {"committed": False, "reason": "it never got ready"}


class Starter:
    """Nothing is started."""

    host = "pump-3"

    def start(self, argv: Sequence[str]) -> Any:
        raise NotImplementedError

    def run(self, argv: Sequence[str], stdin: BinaryIO | None = None) -> int:
        raise NotImplementedError


class Device(Remote):
    """Answers calls; an exception is raised.

    Attributes:
        made: every call with its arguments, in their order.
    """

    def __init__(self, answers: Mapping[str, Any], mode: str = "system") -> None:
        super().__init__(Starter(), "user" if mode == "user" else "system")
        self._given: dict[str, Any] = {
            "status": {"services": []},
            "missing": [],
            "install_runtime": {"made": True},
            "prove": GOOD,
            "trial": COMMITTED,
            "trust": {"added": ["key.pub.pem"]},
            **answers,
        }
        self.made: dict[str, dict[str, Any]] = {}

    def call(self, name: str, /, **arguments: Any) -> Any:
        self.made[name] = arguments
        answer = self._given.get(name, {})
        if isinstance(answer, Exception):
            raise answer
        if arguments.get("body"):
            arguments["sent"] = arguments["body"].read()
        return answer

    @property
    def as_root(self) -> list[str]:
        return [name for name, arguments in self.made.items() if arguments.get("root")]


@dataclass
class Listener:
    steps: list[tuple[str, str]] = field(default_factory=list)
    seen: list[tuple[str, int, int]] = field(default_factory=list)

    def step(self, title: str, text: str) -> None:
        self.steps.append((title, text))

    def progress(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))

    def hear(self, event: Mapping[str, Any]) -> None:
        raise NotImplementedError


@pytest.fixture
def plan(tmp_path: Path) -> ReleasePlan:
    content = bytes(range(200))
    path = tmp_path / "pump.tflite"
    path.write_bytes(content)
    stored = StoredFile(hashlib.sha256(content).hexdigest(), len(content))
    runtime = RuntimeSpec("litert-1", "3.11", "aarch64", {}, (), "pip.whl", True)
    spec = ReleaseSpec(
        service="pump",
        id="20261121-053012-3f2a9c1b",
        digest="3f2a",
        made="",
        by="ann@laptop",
        edgelstm="0.1.0",
        files={"pump.tflite": stored},
        configuration="pump.toml",
        artifacts=("pump.tflite",),
        runtime=runtime,
        unit="",
    )
    return ReleasePlan([], groups=("dialout",), bundle=Bundle(spec, {stored.sha256: path}))


def deployment(device: Remote, *keys: Path) -> tuple[Deployment, Listener]:
    listener = Listener()
    timing = Timing(ready=1, readings=2, grace=3)
    return Deployment(device, Choice(Path("pump.tflite")), listener, timing, keys), listener


CHANGES = ["prepare", "install_runtime", "stage", "prove", "trial"]


def test_what_is_done_in_which_order(plan: ReleasePlan) -> None:
    device = Device({})
    one, listener = deployment(device)
    outcome = one.carry_out(plan)
    assert outcome.committed
    assert list(device.made) == ["status", "prepare", "missing", *CHANGES[1:], "prune"]
    assert device.as_root == [*CHANGES, "prune"]
    assert all(made["layout"] == device.layout for made in device.made.values())
    assert device.made["prepare"]["groups"] == ["dialout"]
    trial = device.made["trial"]
    assert [trial[name] for name in ("ready_timeout", "readings_timeout", "grace")] == [1, 2, 3]
    assert listener.steps == [
        ("Sent", "nothing; the device has every file"),
        ("Runtime", "litert-1, made"),
        ("Proved", "doctor"),
    ]


def test_what_came_before_is_not_sent_again(plan: ReleasePlan) -> None:
    [file] = plan.ready.spec.stored().values()
    lacking = [{"sha256": file.sha256, "size": 200, "have": 150}]
    device = Device({"missing": lacking})
    one, listener = deployment(device)
    assert one.sending(plan).bytes == 50
    one.carry_out(plan)
    receive = device.made["receive"]
    assert (receive["sent"], receive["offset"]) == (bytes(range(150, 200)), 150)
    assert listener.seen[-1] == ("sending", 50, 50)
    assert listener.steps[0] == ("Sent", "1 file, 0.0 MB of 0.0 MB")


def test_a_proof_that_fails_is_the_end(plan: ReleasePlan) -> None:
    device = Device({"prove": BAD})
    one, listener = deployment(device)
    outcome = one.carry_out(plan)
    assert not outcome.committed
    assert outcome.trial is None
    assert [proof.ok for proof in outcome.proofs] == [True, False]
    assert list(device.made)[-1] == "prove"
    assert listener.steps[-1] == ("FAILED", "verify")


@pytest.mark.parametrize(
    ("answers", "trusted"), [({}, True), ({"trial": BACK}, False), ({"prove": BAD}, False)]
)
def test_keys_are_trusted_only_once_the_release_serves(
    plan: ReleasePlan, tmp_path: Path, answers: dict[str, Any], trusted: bool
) -> None:
    write_new_keys(tmp_path / "key.pem")
    device = Device(answers)
    one, listener = deployment(device, tmp_path / "key.pub.pem")
    assert one.carry_out(plan).committed is trusted
    assert ("trust" in device.made) is trusted
    if trusted:
        assert list(device.made)[-2:] == ["trust", "prune"]
        text = (tmp_path / "key.pub.pem").read_text()
        assert device.made["trust"]["keys"] == {"key.pub.pem": text}
        assert listener.steps[-1] == ("Trusts", "key.pub.pem")


def test_keys_with_a_comment_in_any_encoding(plan: ReleasePlan, tmp_path: Path) -> None:
    write_new_keys(tmp_path / "key.pem")
    key = tmp_path / "key.pub.pem"
    key.write_bytes("Schl\u00fcssel\n".encode("latin-1") + key.read_bytes())
    device = Device({})
    assert deployment(device, key)[0].carry_out(plan).committed
    assert "BEGIN PUBLIC KEY" in device.made["trust"]["keys"]["key.pub.pem"]


def test_what_fails_after_the_switch_is_not_said_to_be_of_the_release(
    plan: ReleasePlan, tmp_path: Path
) -> None:
    one, listener = deployment(Device({"prune": DeploymentError("The disk is odd.")}))
    assert one.carry_out(plan).committed
    assert listener.steps[-1] == ("Note", "old releases were not removed: The disk is odd.")
    write_new_keys(tmp_path / "key.pem")
    device = Device({"trust": DeploymentError("It is another key.")})
    with pytest.raises(DeploymentError, match=r"^The release serves, but .* It is another key\.$"):
        deployment(device, tmp_path / "key.pub.pem")[0].carry_out(plan)


def running(**changes: Any) -> dict[str, Any]:
    service = {
        "name": "pump",
        "release": "20261101-101010-3f2a9c1b",
        "made": {"digest": "3f2a"},
        "trial": "",
        "unit": {"active": "active", "sub": "running", "seconds": 60.0},
        "health": {"status": "ok", "problems": [], "age": 0.5},
        **changes,
    }
    return {"services": [service]}


@pytest.mark.parametrize(
    "changes",
    [{"name": "fan"}, {"made": None}, {"made": {"digest": "0"}}, {"trial": "x"}, {"health": None}],
)
def test_what_runs_is_replaced_unless_it_is_the_same_and_well(
    plan: ReleasePlan, changes: dict[str, Any]
) -> None:
    device = Device({"status": running(**changes)})
    assert not deployment(device)[0].carry_out(plan).nothing_to_do
    assert "trial" in device.made


def test_what_runs_already_is_left_alone_but_for_keys(plan: ReleasePlan, tmp_path: Path) -> None:
    device = Device({"status": running()})
    outcome = deployment(device)[0].carry_out(plan)
    assert outcome.nothing_to_do
    assert outcome.release == "20261101-101010-3f2a9c1b", "that it runs, not that of the plan"
    assert outcome.committed
    assert list(device.made) == ["status"]
    write_new_keys(tmp_path / "key.pem")
    device = Device({"status": running()})
    assert deployment(device, tmp_path / "key.pub.pem")[0].carry_out(plan).committed
    assert list(device.made) == ["status", "trust"]


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_done_ends_it(plan: ReleasePlan, name: str) -> None:
    device = Device({name: DeploymentError("The disk is full.")})
    with pytest.raises(DeploymentError, match="The disk is full"):
        deployment(device)[0].carry_out(plan)
    assert list(device.made)[-1] == name


def test_what_needs_root_is_named(plan: ReleasePlan, tmp_path: Path) -> None:
    one, _ = deployment(Device({}))
    assert one.as_root(plan, {"service_user": {"exists": False}}) == [
        "make the user edgelstm",
        "write into /opt/edgelstm",
        "install and start the unit edgelstm@pump",
    ]
    write_new_keys(tmp_path / "key.pem")
    one, _ = deployment(Device({}), tmp_path / "key.pub.pem")
    assert one.as_root(plan, {"service_user": {"exists": True}}) == [
        "write into /opt/edgelstm",
        "write into /etc/edgelstm/trusted, at the end",
        "install and start the unit edgelstm@pump",
    ]
    assert deployment(Device({}, "user"))[0].as_root(plan, {}) == []


def test_keys_for_a_device(tmp_path: Path) -> None:
    assert not keys_for_device([])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_new_keys(tmp_path / name / "key.pem")
    first, second = (tmp_path / name / "key.pub.pem" for name in ("a", "b"))
    assert keys_for_device([first, first])
    with pytest.raises(ConfigurationError, match=r"Two keys are called key\.pub\.pem"):
        keys_for_device([first, second])
    keys = keys_for_device([first, second.rename(tmp_path / "b/other.pem")])
    tiny = Path(__file__).parents[1] / "data/tiny.tflite"
    signed = sign(tiny.read_bytes(), PrivateKey.read(tmp_path / "b/key.pem"), tiny)
    keys.check(signed, tiny)
    with pytest.raises(SignatureError):
        keys.check(sign(tiny.read_bytes(), PrivateKey.generate(), tiny), tiny)
