"""What of `edgelstm deploy` needs an sshd and nothing else: no root, no systemd; it never skips."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from made_release import BROKEN, make_release
from sshd import Sshd, cut, free_port, make_key, sshd

from edgelstm.errors import DeploymentError
from edgelstm_devices.remote import ConnectionLostError, Remote, connect

TINY = Path(__file__).parents[1] / "data/tiny.tflite"
NOWHERE = "/dev/ttyUSB-of-nobody"
PLACES = ("/opt", "/etc", "/etc/systemd/system", "/var/lib", "~", "~/.local/share", "~/.config")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short name, for a socket has to fit in."""
    with tempfile.TemporaryDirectory(prefix="deploy-") as folder:
        yield Path(folder)


@pytest.fixture
def client(server: Sshd, tmp_path: Path) -> Path:
    """The server's files of the client, to spoil."""
    for name in ("key", "known_hosts", "config"):
        shutil.copy(server.folder / name, tmp_path / name)
    text = (server.folder / "config").read_text().replace(str(server.folder), str(tmp_path))
    (tmp_path / "config").write_text(text)
    return tmp_path


def call(remote: Remote, name: str, **arguments: Any) -> Any:
    return remote.call(name, layout=remote.layout, **arguments)


def refusal(host: str, *options: str) -> str:
    """What is said of a host that is not reached."""
    with pytest.raises(DeploymentError) as caught, connect(host, ssh_options=options):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


def edgelstm(*arguments: object, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line, which leaves nothing among the temporary files."""
    done = subprocess.run(
        [sys.executable, "-m", "edgelstm", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert not list(temporary.iterdir())
    assert not processes_with(str(temporary))
    assert "Traceback" not in done.stderr
    return done


def processes_with(word: str) -> list[int]:
    """Those that were started with it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def lead_to(command: str, server: Sshd, client: Path) -> None:
    """Whatever the client asks for, the server's shell runs this."""
    quoted, key = command.replace('"', '\\"'), make_key(client / "other")
    with (server.folder / "authorized_keys").open("a") as file:
        file.write(f'command="{quoted}" {key}')
    (client / "other").replace(client / "key")


def below(server: Sshd, word: str) -> set[int]:
    """The processes that were started by connections to a server, with a word."""

    def parents(number: int) -> Iterator[int]:
        while number > 1:
            try:
                status = Path(f"/proc/{number}/stat").read_text()
            except OSError:
                return
            number = int(status.rpartition(")")[2].split()[1])
            yield number

    return {number for number in processes_with(word) if server.process_id in parents(number)}


def agents_of(server: Sshd) -> set[int]:
    return below(server, "edgelstm agent")


def is_there(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(numbers: set[int], seconds: float = 15.0) -> None:
    stop = time.monotonic() + seconds
    while any(map(is_there, numbers)):
        assert time.monotonic() < stop, f"{numbers} go on"
        time.sleep(0.05)


# Looking


def listing() -> dict[str, int | None]:
    """When what a deployment writes to was changed."""
    paths = [Path(place).expanduser() for place in PLACES]
    return {str(path): path.stat().st_mtime_ns if path.exists() else None for path in paths}


def test_check_finds_what_is_wrong_and_changes_nothing(server: Sshd, temporary: Path) -> None:
    before = listing()
    arguments = ("deploy", TINY, server.host, *server.options, "--check", "--offline")
    done = edgelstm(*arguments, "--port", NOWHERE, temporary=temporary)
    assert done.returncode == 1, done.stderr
    assert NOWHERE in done.stdout
    assert "it is not there" in done.stdout
    if not Path("/run/systemd/system").exists():
        assert "systemd" in done.stdout
    assert "Device    device: " in done.stderr
    done = edgelstm(*arguments, "--port", NOWHERE, "--json", temporary=temporary)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    problems = {one["name"] for one in answer["findings"] if one["level"] == "problem"}
    assert NOWHERE in problems
    assert listing() == before


def test_options_instead_of_a_configuration(server: Sshd, client: Path) -> None:
    options = ["-F", "/dev/null", "-p", str(server.port), "-i", str(client / "key")]
    options += ["-o", f"UserKnownHostsFile={client}/known_hosts", "-o", "IdentitiesOnly=yes"]
    with connect("127.0.0.1", mode="user", ssh_options=options, root="/nowhere") as remote:
        assert call(remote, "services") == []
        assert remote.host == "127.0.0.1"
    with connect(f"ssh://127.0.0.1:{server.port}", ssh_options=options[:2] + options[4:]) as remote:
        assert remote.call("services", layout={"mode": "user", "root": "/nowhere"}) == []


def test_programs_with_this_ones_output(
    server: Sshd, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "input").write_bytes(b"from a file")
    with (
        (tmp_path / "input").open("rb") as file,
        connect(server.host, mode="user", ssh_options=server.options) as remote,
    ):
        program = ("sh", "-c", 'cat; echo " $1"; exit 7', "sh", "a  b'$")
        assert remote.run(*program, stdin=file) == 7
    assert capfd.readouterr().out == "from a file a  b'$\n"


# Not let in


def test_a_host_key_that_is_not_known(server: Sshd, client: Path, temporary: Path) -> None:
    (client / "known_hosts").write_text("")
    sentence = (
        "The host key of device is not known; log in once by hand to check and accept it: ssh -F "
        f"{client}/config device"
    )
    assert refusal("device", "-F", f"{client}/config") == sentence
    done = edgelstm(
        "deploy", TINY, "device", "-F", client / "config", "--check", temporary=temporary
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == f"Error: {sentence}"
    assert (client / "known_hosts").read_text() == ""


def test_a_host_key_is_not_skipped_when_nobody_can_be_asked(server: Sshd, client: Path) -> None:
    (client / "known_hosts").write_text("")
    text = (client / "config").read_text().replace("StrictHostKeyChecking yes", "")
    (client / "config").write_text(text)
    assert "The host key of device is not known" in refusal("device", "-F", f"{client}/config")
    assert (client / "known_hosts").read_text() == ""


def test_another_host_key(server: Sshd, client: Path) -> None:
    known = f"[127.0.0.1]:{server.port} {make_key(client / 'other')}"
    (client / "known_hosts").write_text(known)
    message = refusal("device", "-F", f"{client}/config")
    assert message.startswith("device has another host key than it had: it was set up anew, or")
    command = message.partition("forget the old key with: ")[2]
    assert command == f'ssh-keygen -f "{client}/known_hosts" -R "[127.0.0.1]:{server.port}"'
    assert (client / "known_hosts").read_text() == known
    subprocess.run(["/bin/sh", "-c", command], check=True, capture_output=True)
    assert "is not known" in refusal("device", "-F", f"{client}/config")


def test_another_key(server: Sshd, client: Path) -> None:
    (client / "key").unlink()
    make_key(client / "key")
    message = refusal("device", "-F", f"{client}/config")
    assert message.startswith("device does not let you in (")
    assert "Permission denied (publickey)" in message
    assert message.endswith(f"with: ssh-copy-id -F {client}/config device")


def test_a_name_that_nobody_has() -> None:
    message = refusal("pump.invalid", "-F", "/dev/null")
    assert message.startswith("pump.invalid cannot be reached (ssh: Could not resolve hostname")
    assert message.endswith("; try: ssh -F /dev/null pump.invalid")


def test_nobody_listens(client: Path) -> None:
    message = refusal("device", "-F", f"{client}/config", "-p", str(free_port()))
    assert message.startswith("device cannot be reached (ssh: connect to host 127.0.0.1 port")
    assert "Connection refused" in message


def test_options_that_ssh_does_not_know(server: Sshd) -> None:
    assert "Bad configuration option" in refusal("device", *server.options, "-o", "Jump=1")
    assert "/nowhere" in refusal("device", "-F", "/nowhere")


# By the way of another, and with a configuration that has plans of its own


@pytest.fixture
def jump(server: Sshd, client: Path, tmp_path: Path) -> Iterator[Path]:
    """A configuration that gets to the server by the way of another one."""
    folder = tmp_path / "jump"
    folder.mkdir()
    with sshd(folder) as one:
        gate = (one.folder / "config").read_text().replace("Host device", "Host gate")
        way = (client / "config").read_text() + "  ProxyJump gate\n"
        (client / "config").write_text(way + gate)
        yield client / "config"


def test_a_jump_host(jump: Path) -> None:
    with connect("device", mode="user", ssh_options=("-F", str(jump)), root="/nowhere") as remote:
        assert call(remote, "services") == []
    plain = jump.with_name("plain")
    plain.write_text(jump.read_text().replace("ProxyJump", "# ProxyJump"))
    options = ("-F", str(plain), "-o", "ProxyJump=gate")
    with connect("device", mode="user", ssh_options=options, root="/nowhere") as remote:
        assert call(remote, "services") == []


def test_a_jump_host_that_is_not_reached(jump: Path) -> None:
    (jump.parent / "jump/known_hosts").write_text("")
    message = refusal("device", "-F", str(jump))
    assert message.startswith("The host key of a host on the way to device is not known")
    jump.write_text(jump.read_text().replace("ProxyJump gate", "ProxyJump gate.invalid"))
    message = refusal("device", "-F", str(jump))
    assert "Could not resolve hostname gate.invalid" in message


def test_what_a_user_set_up_for_logging_in_is_not_in_the_way(client: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own = (
            "  RemoteCommand exec bash -l\n  RequestTTY force\n  ExitOnForwardFailure yes\n"
            f"  LocalForward 127.0.0.1:{port} localhost:80\n"
            f"  ControlMaster auto\n  ControlPath {client}/own\n"
        )
        (client / "config").write_text((client / "config").read_text() + own)
        options = ("-F", f"{client}/config")
        with connect("device", mode="user", ssh_options=options, root="/nowhere") as remote:
            assert call(remote, "services") == []
    assert not (client / "own").exists()


def test_a_folder_of_temporary_files_with_an_odd_name(
    server: Sshd, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = temporary / "50% of %h"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    with connect("device", mode="user", ssh_options=server.options, root="/nowhere") as remote:
        assert call(remote, "services") == []
        assert list(odd.glob("*/ssh"))
    assert not list(odd.iterdir())
    deep = temporary / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with connect("device", mode="user", ssh_options=server.options, root="/nowhere") as remote:
        assert call(remote, "services") == []


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("printf 'Hello! '; eval \"$SSH_ORIGINAL_COMMAND\"", ""),
        ("echo Hello; echo hint >&2; eval \"$SSH_ORIGINAL_COMMAND\"", ""),
        (
            "echo 'This account is currently not available.'; exit 1",
            "python3 does not start on device (This account is currently not available); log in "
            "there and see why.",
        ),
        (
            "exit 127",
            "device has no python3; log in there and run: sudo apt-get install python3",
        ),
    ],
)  # fmt: skip
def test_what_a_device_does_at_a_login(
    server: Sshd, client: Path, first: str, message: str
) -> None:
    lead_to(first, server, client)
    said = ""
    options = ("-F", f"{client}/config")
    with connect("device", mode="user", ssh_options=options, root="/nowhere") as remote:
        try:
            assert call(remote, "services") == []
        except DeploymentError as error:
            said = str(error)
    assert said == message


# Sending


class CableBite(io.BytesIO):
    """A body during which something happens."""

    def __init__(self, content: bytes, at: int, bite: Callable[[], None]) -> None:
        super().__init__(content)
        self._at, self._bite = at, bite

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._at:
            self._at = len(self.getvalue()) + 1
            self._bite()
        return super().read(size)


def test_a_transfer_that_is_cut_goes_on_where_it_was(server: Sshd, tmp_path: Path) -> None:
    content = hashlib.shake_128(b"x").digest(12_000_000)
    digest = hashlib.sha256(content).hexdigest()
    file = {"sha256": digest, "size": len(content)}

    def bite() -> None:
        agents.update(agents_of(server))
        time.sleep(0.5)  # for what is under way
        cut(server.process_id)

    def connected() -> AbstractContextManager[Remote]:
        return connect("device", mode="user", ssh_options=server.options, root=str(tmp_path / "d"))

    agents: set[int] = set()
    with connected() as remote:
        assert call(remote, "missing", files=[file]) == [{**file, "have": 0}]
        body = CableBite(content, 8_000_000, bite)
        with pytest.raises(ConnectionLostError) as caught:
            call(remote, "receive", body=body, offset=0, **file)
    assert str(caught.value).startswith("The connection to device ended in the middle")
    assert agents
    wait_for_end(agents)
    with connected() as remote:
        [lacking] = call(remote, "missing", files=[file])
        have = lacking["have"]
        assert 1_000_000 < have < 9_000_000
        rest = io.BytesIO(content[have:])
        call(remote, "receive", body=rest, offset=have, **file)
        assert call(remote, "missing", files=[file]) == []
    assert (tmp_path / "d/store" / digest).read_bytes() == content


def test_a_release_is_sent_made_and_proved(server: Sshd, tmp_path: Path) -> None:
    root = tmp_path / "device"
    good, bad = (
        make_release(tmp_path / name, "pump", name, identifier=f"20261121-05301{i}-3f2a9c1b")
        for i, name in enumerate(("good", BROKEN))
    )
    with connect("device", mode="user", ssh_options=server.options, root=str(root)) as remote:
        sent = []
        for bundle in (good, bad):
            files = [asdict(file) for file in bundle.spec.stored().values()]
            for lacking in call(remote, "missing", files=files):
                with bundle.sources[lacking["sha256"]].open("rb") as body:
                    call(
                        remote, "receive", body=body, offset=0,
                        sha256=lacking["sha256"], size=lacking["size"],
                    )  # fmt: skip
                sent.append(lacking["sha256"])
        assert len(sent) == len(set(sent)) == 5, "the second differs in its model alone"
        runtime = good.spec.to_dict()["runtime"]
        assert call(remote, "install_runtime", runtime=runtime)["made"]
        assert not call(remote, "install_runtime", runtime=runtime)["made"]
        proofs = []
        for bundle in (good, bad):
            heard: list[Mapping[str, Any]] = []
            spec = bundle.spec.to_dict()
            call(remote, "stage", spec=spec)
            proofs.append(call(remote, "prove", spec=spec, on_event=heard.append))
            assert [event["name"] for event in heard if event["what"] == "proving"] == [
                "doctor",
                "verify pump.tflite",
                "configuration",
            ]
        assert [one["ok"] for one in proofs[0]] == [True, True, True], proofs[0]
        assert [one["ok"] for one in proofs[1]] == [True, False, True], proofs[1]
        releases = {one["id"] for one in call(remote, "releases", service="pump")}
        assert releases == {good.spec.id, bad.spec.id}
    assert (root / "services/pump/releases" / good.spec.id / "pump.tflite").read_text() == "good"
    assert not (root / "services/pump/current").exists()


# Ends


def test_a_session_that_is_cut_during_a_call(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "services/pump/releases").mkdir(parents=True)
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another deployment would
        agents: set[int] = set()

        def pull(event: Mapping[str, Any]) -> None:
            assert event["what"] == "waiting"
            agents.update(agents_of(server))
            cut(server.process_id)

        with (
            pytest.raises(ConnectionLostError),
            connect(
                "device", mode="user", ssh_options=server.options, root=str(tmp_path)
            ) as remote,
        ):
            call(remote, "prune", service="pump", keep=3, on_event=pull)
        assert agents
        wait_for_end(agents)


def test_agents_end_with_the_connection(server: Sshd) -> None:
    with connect("device", mode="user", ssh_options=server.options, root="/nowhere") as remote:
        call(remote, "services")
        agents = agents_of(server)
        assert agents
    wait_for_end(agents)


def test_ctrl_c_while_a_device_does_not_answer(
    server: Sshd, client: Path, tmp_path: Path, temporary: Path
) -> None:
    lead_to(f"touch {tmp_path}/reached; exec sleep 30", server, client)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgelstm", "deploy", str(TINY), "device", "-F", f"{client}/config"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    stop = time.monotonic() + 20
    while not (tmp_path / "reached").exists():
        assert time.monotonic() < stop
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 1
    assert out == ""
    assert err.splitlines()[-1] == "Aborted!"
    assert not list(temporary.iterdir())
    assert not processes_with(str(temporary))
