"""What several tests use."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from edgelstm.artifact import Artifact
from edgelstm.recording import Recording

# Before any test imports TensorFlow: quiet, and as the product itself runs it.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

# No deadlines: machines are busy. CI tries the same examples each time, so that it does not fail
# on a change for what was there before; runs by hand go on looking for others.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

# Who starts the tests in the background has Ctrl-C ignored, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
SLOW_FOLDERS = {"firmware", "host", "system"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW_FOLDERS & set(item.path.relative_to(ROOT / "tests").parts):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """On CI nothing is skipped: a skip there is a failure."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def tiny_float() -> Artifact:
    """A wider model than `tiny`, in int8-float: it takes and gives physical units itself."""
    return Artifact.read(ROOT / "tests/data/tiny_float.tflite")


@pytest.fixture(scope="session")
def tiny_window() -> Artifact:
    """Forecasts from windows of 8 readings, at every third."""
    return Artifact.read(ROOT / "tests/data/tiny_window.tflite")


@pytest.fixture(scope="session")
def tiny_ahead() -> Artifact:
    """Forecasts the second of its two channels, three readings ahead."""
    return Artifact.read(ROOT / "tests/data/tiny_ahead.tflite")


@pytest.fixture(scope="session")
def tiny_again() -> Artifact:
    """Gives windows of 8 readings back, at every second."""
    return Artifact.read(ROOT / "tests/data/tiny_again.tflite")


@pytest.fixture(scope="session")
def tiny_ports() -> Artifact:
    """Inputs `vibration` (2 channels) and `load`; outputs `higher` (2 classes) and `next_load`."""
    return Artifact.read(ROOT / "tests/data/tiny_ports.tflite")


@pytest.fixture(scope="session")
def tiny_tokens() -> Artifact:
    """Reads tokens from 0 to 4 and says how likely each comes next."""
    return Artifact.read(ROOT / "tests/data/tiny_tokens.tflite")


@pytest.fixture(scope="session")
def waves() -> Recording:
    """1,300 readings of three noisy sines around 20, -5 and 1000."""
    t = np.arange(1300, dtype=np.float64)
    rng = np.random.default_rng(7)
    z = np.stack([np.sin(t / 9), np.sin(t / 5 + 1), np.cos(t / 14)], axis=1)
    z += rng.normal(0, 0.1, z.shape)
    return Recording("waves", ("a", "b", "c"), t * 10.0, z * [2, 1, 50] + [20, -5, 1000], 10.0)
