"""What the agent does before and after the switch, on a machine with systemd and users."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_rig import OWN_WHEEL, PIP_WHEEL, a_runtime, own_wheel, pip_wheel
from device_machine import DeviceMachine, device_machine, why_no_device
from systemd_machine import write

from edgelstm.errors import DeploymentError
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.remote import Remote, connect

pytestmark = pytest.mark.skipif(bool(why_no_device()), reason=why_no_device())

PROGRAM = """
import json, os, sys
def main():
    told = dict(os.environ)
    open(os.environ["STATE_DIRECTORY"] + "/x", "w").close()
    ids = [os.getuid(), sorted(os.getgroups())]
    sys.stderr.write(json.dumps({"ids": ids, "environ": told}) + "\\n")
    print(json.dumps({"findings": [], "runtime": "x", "runs": 1, "first": None}))
"""
_RUNTIME = "/run/user/1000"
# What logind and PAM do for a user who lingers.
_MANAGER = f"""[Service]
Type=notify
User=pi
Delegate=yes
Environment=XDG_RUNTIME_DIR={_RUNTIME}
ExecStartPre=+/bin/sh -c "mkdir -p {_RUNTIME} && chown pi {_RUNTIME} && chmod 700 {_RUNTIME}"
ExecStart=/usr/lib/systemd/systemd --user
KillMode=mixed
"""
UNIT = "[Service]\nExecStart=@RELEASE@/runtime/bin/edgelstm\n"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMachine]:
    with device_machine(tmp_path_factory.mktemp("device")) as device:
        write(device.path("/etc/systemd/system/manager.service"), _MANAGER)
        device.machine.run("systemctl", "daemon-reload")
        device.machine.run("systemctl", "start", "manager.service")
        yield device


def send(remote: Remote, content: bytes, folder: Path, root: bool) -> dict[str, Any]:
    file: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "content").write_bytes(content)
    lacking = remote.call("missing", files=[file], layout=remote.layout)
    if lacking:
        with (folder / "content").open("rb") as body:
            remote.call("receive", root=root, body=body, offset=0, layout=remote.layout, **file)
    return file


@pytest.mark.parametrize("mode", ["system", "user"])
def test_from_nothing_to_proved_and_to_nothing_again(
    device: DeviceMachine, tmp_path: Path, mode: Any
) -> None:
    root = mode == "system"
    bus = ["runuser", "-u", "pi", "--", "env", f"XDG_RUNTIME_DIR={_RUNTIME}"]
    manager = ["systemctl"] if root else [*bus, "systemctl", "--user"]
    device.machine.run(*manager, "set-environment", "FROM_SYSTEMD=yes it is")
    with connect("device", mode=mode, ssh_options=device.options) as remote:

        def call(name: str, **arguments: Any) -> Any:
            return remote.call(name, root=root, layout=remote.layout, **arguments)

        for _ in range(2):  # everything is safe to repeat
            user = call("prepare", service="pump")["user"]
        assert user == ("edgelstm" if root else "pi")
        files = {PIP_WHEEL: pip_wheel(), OWN_WHEEL: own_wheel(PROGRAM)}
        scratch = Layout("user", tmp_path / "x", {"HOME": str(tmp_path)})
        runtime = a_runtime(scratch, files)
        for content in files.values():
            send(remote, content, tmp_path, root)
        assert [call("install_runtime", runtime=runtime)["made"] for _ in range(2)] == [True, False]
        spec = {
            "service": "pump",
            "id": "20261121-053012-3f2a9c1b",
            "digest": "0" * 64,
            "made": "",
            "by": "",
            "edgelstm": "9.0",
            "files": {
                "pump.toml": send(remote, b"# nothing", tmp_path, root),
                "pump.tflite": send(remote, b"nothing", tmp_path, root),
            },
            "configuration": "pump.toml",
            "artifacts": ["pump.tflite"],
            "runtime": runtime,
            "unit": UNIT,
        }
        folder = call("stage", spec=spec)["release"]
        answer = call("prove", spec=spec)
        assert [one["ok"] for one in answer] == [True, True, True]
        told = json.loads(answer[-1]["text"])
        number = device.machine.run("id", "-u", user).stdout.strip()
        assert told["ids"][0] == int(number) != 0
        assert told["environ"]["FROM_SYSTEMD"] == "yes it is"
        assert not Path(device.path(told["environ"]["TMPDIR"])).exists()
        if root:
            assert 20 in told["ids"][1]  # dialout
            home = device.machine.run("getent", "passwd", "edgelstm").stdout
            assert "/var/lib/edgelstm" in home
            owners = device.machine.run("find", "/opt/edgelstm", "!", "-user", "root").stdout
            assert owners == ""
            wide = device.machine.run("find", "/opt/edgelstm", "-perm", "/022", "!", "-type", "l")
            assert wide.stdout == ""
            seen = device.machine.run("runuser", "-u", "joe", "--", "cat", f"{folder}/pump.toml")
            assert seen.stdout == "# nothing"
            with pytest.raises(DeploymentError, match="does not let the user 1000 write to"):
                remote.call("prepare", layout=remote.layout, service="fan")
        units = device.path("/etc/systemd/system" if root else "/home/pi/.config/systemd/user")
        unit = units / "edgelstm@pump.service"
        write(
            unit,
            f"[Service]\nExecStart=sleep 3600\nStateDirectory=edgelstm/%i\n# {folder}/\n"
            "[Install]\nWantedBy=default.target\n",
        )
        if not root:
            device.machine.run("chown", "-R", "1000:1000", "/home/pi/.config")
        device.machine.run(*manager, "daemon-reload")
        device.machine.run(*manager, "enable", "--now", "edgelstm@pump")
        gone = call("uninstall", service="pump")
        assert [path for path in gone["kept"] if path.endswith("edgelstm/pump")] != []
        assert any(str(unit).endswith(path) for path in gone["removed"])
        assert not unit.exists()
        state = device.machine.run(*manager, "is-active", "edgelstm@pump", check=False)
        assert state.stdout.strip() == "inactive"
        assert [path.name for path in units.glob("default.target.wants/*")] == []
        assert not device.path(folder.partition("/services/")[0]).exists()
        assert call("uninstall", service="pump", purge=True)["kept"] == []
