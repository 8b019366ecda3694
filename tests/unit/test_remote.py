"""Calls of an agent that is a process of this computer; to the agent it is no different by ssh."""

from __future__ import annotations

import hashlib
import io
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from edgelstm.errors import DeploymentError
from edgelstm_devices import calling, sending
from edgelstm_devices.agent.serve import CALLS
from edgelstm_devices.remote import ConnectionLostError, Remote

ODD = '''
"""Calls that no device has."""

import hashlib, os, subprocess, sys, time

from .context import AgentError


def tell(context, *, count):
    for number in range(count):
        context.event(what="counting", number=number)
    return count


def take(context, *, first=None, events=False):
    digest, size = hashlib.sha256(), 0
    while first is None or size < first:
        block = context.body().read(100_000)
        if not block:
            break
        digest.update(block)
        size += len(block)
        if events:
            context.event(what="taking", size=size)
    return {"size": size, "sha256": digest.hexdigest()}


def refuse(context):
    context.body().read(10)
    raise AgentError("The disk is full.")


def be_noisy(context):
    print("{", flush=True)
    subprocess.run(["echo", "[1]"])
    os.write(1, b"!")
    return "quiet"


def crash(context):
    print("out of memory", file=sys.stderr, flush=True)
    os._exit(3)


def go_silent(context):
    os.closerange(3, 64)


def fail(context):
    return {}["nothing"]


def open_file(context):
    open("/dev/null/x")


def watch(context, *, seconds):
    context.event(what="watching")
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        if not context.alive():
            return "gone"
        time.sleep(0.02)
    return "there"


def be_deaf(context):
    context.event(what="dozing")
    time.sleep(0.1)
    return "done"


def facts(context, **arguments):
    return {"sudo": "password"}
'''
ODD_CALLS = (
    "tell",
    "take",
    "refuse",
    "be_noisy",
    "crash",
    "go_silent",
    "fail",
    "open_file",
    "watch",
    "be_deaf",
)


def with_odd_calls(monkeypatch: pytest.MonkeyPatch, *names: str, silence: float = 20.0) -> None:
    """Sends the agent with those calls."""
    modules = sending.modules()
    table = "".join(f'    "{name}": "odd",\n' for name in names)
    end = '"trusted_keys": "trust",\n'
    serve = modules["serve"].replace("SILENCE_S = 20.0", f"SILENCE_S = {silence}")
    assert end in serve
    changed = {**modules, "serve": serve.replace(end, end + table), "odd": ODD}
    monkeypatch.setattr(sending, "modules", lambda: changed)
    monkeypatch.setattr(sending, "payload", cache(sending.payload.__wrapped__))


class Shell:
    """Programs are started by a shell of this computer, as sshd does.

    Args:
        before: what the shell does first, as a .bashrc would.
        path: of its programs.
    """

    host = "pump-3"

    def __init__(self, before: str = ":", path: str = "/usr/bin:/bin") -> None:
        self._before, self._path = before, path

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        command = ["/bin/sh", "-c", f"{self._before}; {shlex.join(argv)}"]
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env={"PATH": self._path, "HOME": "/"}
        )

    def run(self, argv: Sequence[str], stdin: BinaryIO | None = None) -> int:
        raise NotImplementedError


class Zeros(io.BytesIO):
    """A body of `limit` zeros, after which comes `error`, if any."""

    def __init__(self, limit: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.given, self._limit, self._error = 0, limit, error

    def read(self, size: int | None = -1, /) -> bytes:
        assert size
        assert size > 0, "not all at once"
        if self._error and self.given >= self._limit:
            raise self._error
        size = min(size, self._limit - self.given)
        self.given += size
        return bytes(size)


def of(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture(scope="module")
def odd() -> Iterator[Remote]:
    """An agent with calls that no device has."""
    with pytest.MonkeyPatch.context() as patch:
        with_odd_calls(patch, *ODD_CALLS)
        with Remote.local() as remote:
            remote.call("tell", count=0)
            patch.undo()
            yield remote


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """One of its own, for what leaves it useless."""
    with_odd_calls(monkeypatch, *ODD_CALLS)
    with Remote.local() as one:
        yield one


def test_every_module_of_the_agent_is_sent_and_every_call_is_in_one() -> None:
    modules = sending.modules()
    for name, where in CALLS.items():
        assert f"def {name}(" in modules[where], name


def test_real_calls_with_a_folder_as_device(tmp_path: Path) -> None:
    with Remote.local(tmp_path) as one:
        assert one.host == "this computer"
        assert one.layout == {"mode": "user", "root": str(tmp_path)}
        assert one.call("services", layout=one.layout) == []
        content = bytes(range(256)) * 1000
        file = of(content)
        assert one.call("missing", layout=one.layout, files=[file]) == [{**file, "have": 0}]
        one.call(
            "receive", root=True, layout=one.layout, offset=0, body=io.BytesIO(content), **file
        )
        assert one.call("missing", layout=one.layout, files=[file]) == []
        assert (tmp_path / "store" / file["sha256"]).read_bytes() == content
        with pytest.raises(DeploymentError, match="'x' is no sha256"):
            one.call("missing", layout=one.layout, files=[{"sha256": "x", "size": 1}])
        with pytest.raises(DeploymentError, match="mode 'both' is neither"):
            one.call("services", layout={"mode": "both", "root": None})
        # Neither is the end of it.
        assert one.call("missing", layout=one.layout, files=[file]) == []


def test_a_call_that_there_is_not(odd: Remote) -> None:
    message = "The device was asked for 'os.system', which it cannot do."
    with pytest.raises(DeploymentError) as caught:
        odd.call("os.system", body=Zeros(300_000))
    assert str(caught.value) == message
    assert odd.call("tell", count=0) == 0


def test_events_come_in_order_and_before_the_answer(odd: Remote) -> None:
    heard: list[Mapping[str, Any]] = []
    assert odd.call("tell", count=300, on_event=heard.append) == 300
    assert heard == [{"what": "counting", "number": number} for number in range(300)]
    assert odd.call("tell", count=2) == 2, "nobody has to listen"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_001])
def test_bodies_of_any_size(odd: Remote, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    assert odd.call("take", body=io.BytesIO(content)) == of(content)


def test_a_body_is_sent_from_where_it_stands(odd: Remote) -> None:
    body = io.BytesIO(b"sent before and now")
    body.seek(12)
    assert odd.call("take", body=body) == of(b"and now")


def test_what_a_call_leaves_of_its_body_is_not_the_next_ones(odd: Remote) -> None:
    assert odd.call("take", first=100_000, body=Zeros(2_000_000))["size"] < 200_000
    assert odd.call("take", body=io.BytesIO(b"short")) == of(b"short")


def test_a_call_that_lacks_its_body(odd: Remote) -> None:
    with pytest.raises(DeploymentError, match="came without the bytes that it needs"):
        odd.call("take")


def test_a_body_whose_call_tells_something_is_sent_to_its_end(odd: Remote) -> None:
    heard: list[Mapping[str, Any]] = []
    taken = odd.call("take", events=True, body=Zeros(2_000_000), on_event=heard.append)
    assert taken["size"] == 2_000_000
    assert heard[-1] == {"what": "taking", "size": 2_000_000}


def test_a_refusal_in_the_middle_ends_the_body(odd: Remote) -> None:
    body = Zeros(1 << 29)
    with pytest.raises(DeploymentError, match=r"^The disk is full\.$"):
        odd.call("refuse", body=body)
    assert body.given < 1 << 24, "of half a gigabyte"
    assert odd.call("take", body=io.BytesIO(b"the next")) == of(b"the next")


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_body_that_cannot_be_read_on(another: Remote, error: BaseException) -> None:
    body = Zeros(200_000, error)
    with pytest.raises(type(error)):
        another.call("take", body=body)
    # What was begun cannot be gone on with; to wait for an answer would be for ever.
    with pytest.raises(ConnectionLostError):
        another.call("tell", count=1)


def test_what_was_sent_before_ctrl_c_is_gone_on_with(tmp_path: Path) -> None:
    content = hashlib.shake_128(b"x").digest(1_000_000)
    file = of(content)

    class Pressed(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 400_000:
                raise KeyboardInterrupt
            return super().read(size)

    with Remote.local(tmp_path) as one, pytest.raises(KeyboardInterrupt):
        one.call("receive", layout=one.layout, offset=0, body=Pressed(content), **file)
    with Remote.local(tmp_path) as one:
        [lacking] = one.call("missing", layout=one.layout, files=[file])
        have = lacking["have"]
        assert 0 < have < 600_000
        rest = io.BytesIO(content[have:])
        one.call("receive", layout=one.layout, offset=have, body=rest, **file)
        assert one.call("missing", layout=one.layout, files=[file]) == []


def test_what_a_call_prints_is_not_taken_for_an_answer(odd: Remote) -> None:
    assert odd.call("be_noisy") == "quiet"


def test_a_fault_is_told_in_one_sentence(odd: Remote) -> None:
    with pytest.raises(DeploymentError) as caught:
        odd.call("fail")
    message = str(caught.value)
    assert "\n" not in message
    assert "KeyError: 'nothing'" in message
    assert "fault of edgelstm" in message
    with pytest.raises(DeploymentError, match=r"^On the device: /dev/null/x: Not a directory\.$"):
        odd.call("open_file")


def test_an_agent_that_dies(another: Remote) -> None:
    for _ in range(2):
        with pytest.raises(ConnectionLostError) as caught:
            another.call("crash")
    assert str(caught.value) == (
        "The connection to this computer ended in the middle (out of memory)."
    )


def test_an_agent_that_is_heard_no_more(another: Remote) -> None:
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            another.call("go_silent")


def test_an_agent_that_dies_while_it_is_sent_a_body(another: Remote) -> None:
    with pytest.raises(ConnectionLostError):
        another.call("crash", body=Zeros(1 << 29))


def test_ctrl_c_is_told_to_the_device_which_says_how_that_ended(odd: Remote) -> None:
    def press(event: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    assert odd.call("watch", seconds=20, on_event=press) == "gone"
    assert time.monotonic() - began < 15
    # It was for that call alone.
    assert odd.call("watch", seconds=0.1) == "there"


def test_ctrl_c_is_not_lost_on_a_call_that_does_not_look_out_for_it(odd: Remote) -> None:
    def press(event: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        odd.call("be_deaf", on_event=press)
    assert odd.call("tell", count=1) == 1


@pytest.mark.parametrize(("beat", "answer"), [(0.05, "there"), (60.0, "gone")])
def test_signs_of_life(monkeypatch: pytest.MonkeyPatch, beat: float, answer: str) -> None:
    with_odd_calls(monkeypatch, "watch", silence=0.2)
    monkeypatch.setattr(calling, "_HEARTBEAT_S", beat)
    with Remote.local() as one:
        assert one.call("watch", seconds=0.4) == answer


def test_closing_it_ends_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noting(Shell):
        def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
            started.append(super().start(argv))
            return started[-1]

    one = Remote(Noting(), "user", python=sys.executable)
    one.call("services", layout={"mode": "user", "root": "/nowhere"})
    one.close()
    one.close()
    assert [process.returncode for process in started] == [0]


# A device that will not do, or is odd


def attempt(starter: Shell, python: str = "python3") -> str:
    """What is said of it."""
    one = Remote(starter, "user", python=python)
    with pytest.raises(DeploymentError) as caught:
        one.call("services", layout=one.layout)
    one.close()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_python() -> None:
    assert attempt(Shell(), "python-of-nobody") == (
        "pump-3 has no python3; log in there and run: sudo apt-get install python3"
    )


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\necho "edgelstm agent 3.7"\ncat > /dev/null\n')
    old.chmod(0o755)
    assert attempt(Shell(), str(old)) == (
        "pump-3 has Python 3.7, and edgelstm needs 3.11; install a newer system there (Raspberry "
        "Pi OS of 2023, Debian 12)."
    )


@pytest.mark.parametrize(
    "greeting",
    [
        "echo Welcome; echo 'edgelstm is here'; echo hint >&2",
        "printf 'no end of line: '",
        "printf '\\377\\376\\n'; echo; echo",
        "head -c 300000 /dev/zero; echo",
    ],
)
def test_what_a_shell_says_before_is_passed_over(greeting: str) -> None:
    one = Remote(Shell(greeting), "user", python=sys.executable)
    assert one.call("services", layout={"mode": "user", "root": "/nowhere"}) == []
    one.close()


def test_a_shell_that_lets_nobody_in() -> None:
    said = attempt(Shell("echo 'This account is currently not available.'; exit 1"))
    assert said == (
        "python3 does not start on pump-3 (This account is currently not available); log in there "
        "and see why."
    )


def test_a_shell_that_says_nothing() -> None:
    said = attempt(Shell("exit 7"))
    assert said == "python3 does not start on pump-3 (exit code 7); log in there and see why."


# sudo

SUDO = """#!/bin/sh
# sudo -k -S -p '' -- PROGRAM, as a user whose password is "s3cret".
IFS= read -r line
[ "$line" = "s3cret" ] || { echo "sudo: 1 incorrect password attempt" >&2; exit 1; }
while [ "$1" != "--" ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def wants_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    with_odd_calls(monkeypatch, "tell", "facts")
    (tmp_path / "sudo").write_text(SUDO)
    (tmp_path / "sudo").chmod(0o755)
    return Shell(path=f"{tmp_path}:/usr/bin:/bin")


def test_a_password_is_asked_for_once_and_not_shown(wants_password: Shell) -> None:
    asked: list[str] = []

    def ask(host: str) -> str:
        asked.append(host)
        return "s3cret"

    one = Remote(wants_password, "system", None, ask, sys.executable)
    assert one.needs_password()
    assert one.call("tell", count=1) == 1
    assert asked == [], "that changes nothing"
    assert one.call("tell", root=True, count=2) == 2
    assert one.call("tell", root=True, count=3) == 3
    assert asked == ["pump-3"]
    with pytest.raises(DeploymentError) as caught:
        one.run("journalctl", "-f", root=True)
    assert str(caught.value) == (
        "sudo on pump-3 wants a password, which this command cannot pass on; log in and run: sudo "
        "journalctl -f"
    )
    one.close()


def test_a_wrong_password_and_nobody_to_ask(wants_password: Shell) -> None:
    one = Remote(wants_password, "system", None, lambda _: "guess", sys.executable)
    with pytest.raises(DeploymentError, match="not the password for sudo on pump-3; try again"):
        one.call("tell", root=True, count=2)
    one.close()
    one = Remote(wants_password, "system", None, None, sys.executable)
    with pytest.raises(DeploymentError, match="wants a password, and nobody can be asked here"):
        one.call("tell", root=True, count=2)
    one.close()


def test_one_users_installation_needs_no_root(wants_password: Shell) -> None:
    one = Remote(wants_password, "user", python=sys.executable)
    assert not one.needs_password()
    assert one.call("tell", root=True, count=2) == 2
    one.close()


def test_who_may_not_become_root(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = ODD.replace('"password"', '"none"')
    monkeypatch.setattr(sys.modules[__name__], "ODD", modules)
    with_odd_calls(monkeypatch, "tell", "facts")
    one = Remote(Shell(), "system", python=sys.executable)
    with pytest.raises(DeploymentError, match=r"may not become root; use one who .* --user\.$"):
        one.call("tell", root=True, count=2)
    one.close()


def test_the_agent_needs_nothing_of_the_environment() -> None:
    command = sending.command()
    assert "-I" in command
    assert "\n" not in "".join(command)
    assert "'" not in command[-1], "a quote less for the shells there are"
