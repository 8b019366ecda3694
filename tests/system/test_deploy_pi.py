"""`edgelstm deploy` to an emulated 64-bit Raspberry Pi: see `emulated_pi` and `deploy_rig`.

The tests of this file are one story, in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deploy_rig import (
    Deploying,
    deploying,
    go_back_from_what_never_gets_ready,
    go_back_when_cut,
    refuse_broken_golden_vectors,
    stop_at_a_full_disk,
)
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
    refuse_broken_golden_vectors(pump, good)


def test_a_service_that_never_gets_ready(pump: Deploying, good: str) -> None:
    go_back_from_what_never_gets_ready(pump, good)


def test_a_disk_that_is_full(pump: Deploying, good: str) -> None:
    stop_at_a_full_disk(pump, good)


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
    go_back_when_cut(pump, good, until)
