"""Devices that run signed artifacts only: a service that is reloaded, and a whole machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device_machine import device_machine, why_no_device
from service_rig import Device, Service, assert_whole, make_artifact, until
from systemd_machine import BASE, SITE, SOURCE, SOURCES, write

from edgelstm.errors import DeploymentError
from edgelstm.keys import PrivateKey, write_new_keys
from edgelstm.signing import sign
from edgelstm_devices.remote import connect

CONFIGURATION = """
state_directory = "state"
{keys}
[metrics]
port = 0
[sources.line]
port = "{url}"
[sensors.pump]
artifact = "pump.tflite"
"""


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as device:
        yield device


def put(folder: Path, model: str = "tiny", key: str = "") -> None:
    """An artifact in the service's place, signed or not."""
    make_artifact(folder / "new.tflite", model)
    path = folder / "new.tflite"
    if key:
        path.write_bytes(sign(path.read_bytes(), PrivateKey.read(folder / key), path))
    path.replace(folder / "pump.tflite")


def configure(folder: Path, device: Device, *keys: str) -> None:
    named = ", ".join(f'"{key}"' for key in keys)
    text = CONFIGURATION.format(url=device.url, keys=f"public_keys = [{named}]" if keys else "")
    (folder / "x.toml").write_text(text)


def test_a_reload_with_what_is_not_signed_changes_nothing(tmp_path: Path, device: Device) -> None:
    for name in ("key.pem", "other.pem"):
        write_new_keys(tmp_path / name)
    configure(tmp_path, device, "key.pub.pem")
    put(tmp_path, key="key.pem")
    with Service(tmp_path).started() as service:
        service.until_taken(200)
        model = {name for name in service.figures() if name.startswith("edgelstm_sensor_info")}
        for key, why in (("", "is not signed"), ("other.pem", "is not trusted here")):
            put(tmp_path, "tiny_float", key)
            service.send(signal.SIGHUP)
            service.until_problem(why)
            assert service.health()["status"] == "degraded"
            figures = service.until_taken(service.readings() + 100)
            assert model <= figures.keys()
            assert figures["edgelstm_reloads_total"] == 0
        put(tmp_path, "tiny_float", "key.pem")
        assert not model <= service.reload().keys()
        until(lambda: service.health()["status"] == "ok", "the end of the problem")
        # Other keys count at once.
        configure(tmp_path, device, "other.pub.pem")
        service.send(signal.SIGHUP)
        service.until_problem("is not trusted here")
        put(tmp_path, "tiny_float", "other.pem")
        service.reload()
        sent = device.pause()
        assert_whole(service.until_taken(sent), sent)
        output = service.stop()
    assert "takes effect at the next start" not in output


def test_keys_that_come_while_it_runs_count_from_the_next_reload(
    tmp_path: Path, device: Device
) -> None:
    home = tmp_path / "home"
    trusted = home / ".config/edgelstm/trusted"
    trusted.mkdir(parents=True)
    write_new_keys(tmp_path / "key.pem")
    configure(tmp_path, device)
    put(tmp_path)
    with Service(tmp_path, environ={"HOME": str(home)}).started() as service:
        service.until_taken(100)
        (trusted / "key.pem").write_bytes((tmp_path / "key.pub.pem").read_bytes())
        service.send(signal.SIGHUP)
        service.until_problem("is not signed")
        put(tmp_path, key="key.pem")
        service.reload()
        (trusted / "junk.pem").write_text("junk")
        service.send(signal.SIGHUP)
        service.until_problem("is not the PEM file of one public key")
        service.until_taken(service.readings() + 100)
        service.stop()
    with Service(tmp_path, environ={"HOME": str(home)}) as service:
        assert service.process.wait(30) == 2
        assert "junk.pem is not the PEM file" in service.output


@pytest.mark.skipif(why_no_device() != "", reason=why_no_device())
def test_a_device_whose_keys_came_by_ssh(tmp_path: Path) -> None:
    public, other = (write_new_keys(tmp_path / name) for name in ("key.pem", "other.pem"))
    with device_machine(tmp_path / "machine") as machine:
        paths = [SOURCE, *(f"{SOURCE}/{folder.name}" for folder in SOURCES[1:]), SITE]
        write(
            machine.path("/opt/try/edgelstm"),
            f"#!/bin/sh\nexport LD_LIBRARY_PATH={BASE}/lib PYTHONDONTWRITEBYTECODE=1\n"
            f'PYTHONPATH={":".join(paths)} exec {BASE}/bin/python3.11 -m edgelstm "$@"\n',
            0o755,
        )
        folder = machine.path("/etc/edgelstm")
        folder.mkdir()
        write(folder / "x.toml", CONFIGURATION.format(url="/dev/ttyACM0", keys=""))

        def check(key: str = "") -> tuple[int, str]:
            for name in ("key.pem", "other.pem"):
                (folder / name).write_bytes((tmp_path / name).read_bytes())
            put(folder, key=key)
            done = machine.machine.run(
                "/opt/try/edgelstm", "run", "/etc/edgelstm/x.toml", "--check", check=False
            )
            return done.returncode, done.stdout + done.stderr

        assert check()[0] == 0
        with connect("device", ssh_options=machine.options) as remote:
            arguments: dict[str, Any] = {"layout": remote.layout, "keys": {"ours": public.pem}}
            with pytest.raises(DeploymentError, match="Permission denied"):
                remote.call("trust", **arguments)
            answer = remote.call("trust", root=True, **arguments)
            assert answer["added"] == ["ours.pem"]
            assert remote.call("trust", root=True, **arguments)["present"] == ["ours.pem"]
            assert remote.call("trusted_keys", layout=remote.layout) == [
                {"file": "ours.pem", "fingerprint": public.fingerprint}
            ]
            status = machine.path("/etc/edgelstm/trusted/ours.pem").stat()
            assert (status.st_uid, status.st_mode & 0o777) == (0, 0o644)
            code, said = check()
            assert code == 2
            assert "/etc/edgelstm/pump.tflite is not signed" in said
            code, said = check("other.pem")
            assert code == 2
            assert f"/etc/edgelstm/trusted has {public}. Sign it with one of these." in said
            assert str(other) in said
            code, said = check("key.pem")
            assert code == 0, said
            assert "Only artifacts signed by a key of /etc/edgelstm/trusted are run." in said
            remote.call("untrust", root=True, layout=remote.layout, names=["ours"])
        assert check()[0] == 0
        assert list(machine.path("/etc/edgelstm/trusted").iterdir()) == []
