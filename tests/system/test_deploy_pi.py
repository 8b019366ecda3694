"""`edgelstm deploy` to an emulated 64-bit Raspberry Pi: see `emulated_pi` and `deploy_rig`.

The tests of this file are one story, in the order in which they stand.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from deploy_rig import Deploying, deploying
from emulated_pi import emulated_pi, why_no_pi

pytestmark = [
    pytest.mark.skipif(bool(why_no_pi()), reason=why_no_pi()),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploying]:
    with deploying(tmp_path_factory.mktemp("pi"), emulated_pi, "device-root") as one:
        yield one


@pytest.fixture(scope="module")
def good(pump: Deploying) -> str:
    """The id of the release that serves since the first deployment."""
    done = pump.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "aarch64" in done.stderr
    assert "Proved    verify pump.tflite" in done.stderr
    return pump.current()


def test_from_nothing_to_an_alert(pump: Deploying, good: str) -> None:
    pump.assert_serving(good)
    pump.assert_alert()


def test_golden_vectors_that_do_not_hold(pump: Deploying, good: str) -> None:
    pump.write(broken=True)
    done = pump.deploy()
    assert done.returncode == 1
    assert "the golden runs do not hold, first in" in done.stdout
    pump.assert_serving(good)


def test_a_service_that_never_gets_ready(pump: Deploying, good: str) -> None:
    pump.write()
    before = pump.configuration.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:  # the device shares the network
        metrics = f"\n[metrics]\nport = {taken.getsockname()[1]}\n"
        pump.configuration.write_text(before + metrics)
        done = pump.deploy()
    pump.configuration.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in use" in done.stdout, done.stdout
    pump.assert_serving(good)


def test_a_disk_that_is_full(pump: Deploying, good: str) -> None:
    pump.write(name="another")
    store = "/opt/edgelstm/store"
    pump.device.machine.run("mount", "-t", "tmpfs", "-o", "size=20M", "tmpfs", store)
    try:
        done = pump.deploy()
    finally:
        pump.device.machine.run("umount", store)
    assert done.returncode != 0
    assert "full" in done.stderr or "room" in done.stderr, done.stderr
    pump.assert_serving(good)


MOMENTS = [
    "Device",
    "Release",
    "As root",
    "Sent",
    "Runtime",
    "Proved    doctor",
    "Proved    configuration",
    "starting it",
    "it is ready",
    "readings come",
]


@pytest.mark.parametrize("until", MOMENTS)
def test_a_connection_that_is_cut(pump: Deploying, good: str, until: str) -> None:
    pump.write(name=f"cut at {until}")
    code, told = pump.interrupted(pump.cut_cable, "--grace", "30", until=until)
    assert code == 2, told
    assert "Traceback" not in told
    pump.assert_serving(good)
