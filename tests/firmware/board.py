"""A simulated Arduino Uno for tests: `board(firmware("AnalogInputs"))` runs one in simavr.

The serial port is a pseudo-terminal; A0 to A5 see the waveforms of `waveform_mv`. The options are
those of `simboard.c`. Tests that use it are marked with `needs_simulator`.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from building import firmware, needs_simulator, simulator

__all__ = ["Board", "acceleration", "board", "firmware", "needs_simulator", "waveform_mv"]

INPUTS = 6
SUPPLY_MV = 5000
STEPS = 1023

_STOP_TIMEOUT_S = 30
_PERIODS_MS = (700, 1100, 1700, 2300, 3100, 4300)
_AMPLITUDES_MV = (1500, 1200, 1000, 800, 600, 400)


@dataclass
class Board:
    """A board that runs.

    Attributes:
        port: path of its serial port.
        process: of the simulator.
        summary: what the simulator counted; there once the board was stopped.
    """

    port: str
    process: subprocess.Popen[str]
    summary: dict[str, Any] = field(default_factory=dict)

    def restart(self) -> None:
        """Reset the microcontroller; its EEPROM keeps its content."""
        self.process.send_signal(signal.SIGUSR1)

    def plug_sensor(self) -> None:
        """Unplug the accelerometer, or plug it in again."""
        self.process.send_signal(signal.SIGUSR2)

    def stop(self) -> None:
        """End the simulation and read its summary. May be called more than once."""
        if not self.summary:
            self.process.terminate()
            output, complaints = self.process.communicate(timeout=_STOP_TIMEOUT_S)
            assert not complaints, complaints
            assert self.process.returncode == 0
            self.summary = json.loads(output)


@contextmanager
def board(
    elf: Path,
    *,
    speed: float = 1.0,
    seconds: float | None = None,
    link: Path | None = None,
    drop_ppm: int = 0,
    garble_ppm: int = 0,
    seed: int = 1,
    truth: Path | None = None,
    conversions: Path | None = None,
    anomaly_at: float | None = None,
    restart_at: float | None = None,
    sensor: bool = False,
) -> Iterator[Board]:
    """Run `elf` while the context lasts.

    Args:
        elf: the firmware, see `firmware`.
        speed: simulated seconds per second; 0 for as fast as it goes and as its reader takes it.
        seconds: end by itself after so many simulated seconds.
        link: a symbolic link to make to the port.
        drop_ppm: bytes of the device that get lost, per million.
        garble_ppm: bytes of the device of which one bit flips, per million.
        seed: for these two.
        truth: file for what the device sends, before damage.
        conversions: file for each measurement of an input: channel, millivolts, milliseconds.
        anomaly_at: the simulated second from which on channel 0 is disturbed.
        restart_at: the simulated second of a reset; the EEPROM keeps its content.
        sensor: with an MPU-6050 on the I2C pins, which feels `acceleration`.
    """
    options = {
        "speed": speed,
        "seconds": seconds,
        "link": link,
        "drop-ppm": drop_ppm,
        "garble-ppm": garble_ppm,
        "seed": seed,
        "truth": truth,
        "conversions": conversions,
        "anomaly-at": anomaly_at,
        "restart-at": restart_at,
    }
    arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
    if sensor:
        arguments.append("--sensor")
    process = subprocess.Popen(
        [simulator(), *arguments, elf],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, process.communicate()[1]
        running = Board(json.loads(first)["port"], process)
        yield running
        running.stop()
    finally:
        process.kill()
        process.communicate()


def waveform_mv(channel: int, ms: int) -> int:
    """Return what is on an analogue input, in millivolts, without an anomaly."""
    noise = (ms * INPUTS + channel) * 2654435761 % 2**32
    noise = (noise ^ noise >> 16) * 2246822519 % 2**32
    noise ^= noise >> 13
    sine = math.sin(2 * math.pi * ms / _PERIODS_MS[channel] + channel)
    return round(2500 + _AMPLITUDES_MV[channel] * sine + noise % 17 - 8)


def steps_of(mv: int) -> int:
    """Return what the ADC of the simulated chip makes of a voltage."""
    return mv * STEPS // SUPPLY_MV


def acceleration(ms: int) -> tuple[int, int, int]:
    """Return what the accelerometer measures, in steps of 1/16384 of gravity."""
    turn = 2 * math.pi * ms
    x, y = 4000 * math.sin(turn / 900), -2000 * math.cos(turn / 1300)
    return round(x), round(y), round(16384 + 500 * math.sin(turn / 310))
