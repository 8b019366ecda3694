"""A sensor behind a pseudo-terminal that never ends, to be bound into a machine as its port."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from edgelstm.artifact import Artifact
from edgelstm_bridge.messages import ChannelInfo, Hello
from edgelstm_bridge.pacing import Row
from edgelstm_bridge.virtual_device import VirtualDevice

RATE = 20.0
_DIALOUT = 20  # of Debian
DATA = Path(__file__).parent.parent / "data"


def write_model(path: Path, model: str = "tiny", *, broken: bool = False, name: str = "") -> None:
    """One of the tiny artifacts, as of a sensor that is read 20 times a second.

    Args:
        path: to write.
        model: which of them.
        broken: whether its golden vectors say something that no machine computes.
        name: that it says it has, which makes it another file.
    """
    artifact = Artifact.read(DATA / f"{model}.tflite")
    manifest = replace(artifact.manifest, sample_period=1 / RATE)
    golden = artifact.golden
    if name:
        manifest = replace(manifest, name=name)
    if broken:
        golden = replace(golden, y=-golden.y)
    replace(artifact, manifest=manifest, golden=golden).write(path, force=True)


class Sensor:
    """Sends what those artifacts were trained on.

    Args:
        device: that sends it.

    Attributes:
        port: path of the pseudo-terminal.
        silent: whether it measures nothing.
        disturbed: whether the flow jumps up and down, which is an anomaly.
    """

    def __init__(self, device: VirtualDevice) -> None:
        self.port = device.port
        self.silent = self.disturbed = False

    def rows(self) -> Iterator[Row]:
        """Samples without end."""
        random = Random(5)  # noqa: S311  # noise, no secrets
        step = 0
        while True:
            while self.silent:
                time.sleep(0.05)
            flow = 20 + 3 * (math.sin(step / 8) + random.gauss(0, 0.1))
            if self.disturbed:
                flow += 4 * (-1.0) ** step
            level = -5 + math.sin(step / 5 + 1) + random.gauss(0, 0.1)
            yield step / RATE, (flow, level)
            step += 1


@contextmanager
def sensor() -> Iterator[Sensor]:
    """Runs one until the end, whoever comes and goes at its port."""
    channels = ChannelInfo("flow", "l/min"), ChannelInfo("level", "m")
    hello = Hello(channels, sample_period_us=round(1e6 / RATE), clock_tick_us=1000)
    with VirtualDevice(hello) as device:
        if os.geteuid() == 0:  # as udev does with a serial port
            os.chown(device.port, 0, _DIALOUT)
            Path(device.port).chmod(0o660)
        one = Sensor(device)
        rows = one.rows()
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                device.run(rows, rate=RATE, linger=0.1)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield one
        finally:
            ended.set()
            one.silent = False
            device.close()
            thread.join(10)
