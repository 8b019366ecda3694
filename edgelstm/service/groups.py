"""Groups of sensors: one alone, or several of one kind whose models run together."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edgelstm.errors import ConfigurationError
from edgelstm.fleet import Fleet
from edgelstm.intake import Intake
from edgelstm.reading import Reading
from edgelstm.service.sensor import WatchedSensor

_UNFIT = "The device is none that these sensors can be watched on; it is opened anew."


class Single:
    """One sensor with a session of its own.

    Args:
        sensor: the sensor.
    """

    def __init__(self, sensor: WatchedSensor) -> None:
        self.sensors: tuple[WatchedSensor, ...] = (sensor,)
        self._sensor = sensor
        self._intake: Intake | None = None

    def connect(self, device: Sequence[str], announced: float | None) -> None:
        """See `Group.connect`."""
        self._intake = _intake(self._sensor, device, announced)

    def update(self, reading: Reading) -> None:
        """See `Group.update`."""
        sensor = self._sensor
        sensor.arrived()
        if self._intake is None:
            raise ConfigurationError(_UNFIT)
        for each in self._intake.take(reading):
            sensor.update(each)

    def flush(self) -> None:
        """See `Group.flush`."""
        if self._intake is not None:
            for each in self._intake.flush():
                self._sensor.update(each)

    def close(self) -> None:
        """See `Group.close`."""
        self._sensor.pipeline.session.close()


class Together:
    """Several sensors of one kind: one run of the model takes a step of each.

    Args:
        sensors: none of which resamples its readings.
        fleet: of their pipelines, in their order.
    """

    def __init__(self, sensors: Sequence[WatchedSensor], fleet: Fleet) -> None:
        self.sensors: tuple[WatchedSensor, ...] = tuple(sensors)
        self._fleet = fleet
        self._intakes: list[Intake] = []

    def connect(self, device: Sequence[str], announced: float | None) -> None:
        """See `Group.connect`."""
        self._intakes = [_intake(sensor, device, announced) for sensor in self.sensors]

    def update(self, reading: Reading) -> None:
        """See `Group.update`."""
        if not self._intakes:
            raise ConfigurationError(_UNFIT)
        readings: list[Reading | None] = []
        for sensor, intake in zip(self.sensors, self._intakes, strict=True):
            sensor.arrived()
            readings += intake.take(reading)
        start = time.perf_counter_ns()
        verdicts = self._fleet.update(readings)
        took = time.perf_counter_ns() - start
        for sensor, verdict in zip(self.sensors, verdicts, strict=True):
            assert verdict is not None  # noqa: S101 - each had a reading
            sensor.latency.add(took)
            sensor.take(verdict)

    def flush(self) -> None:
        """See `Group.flush`; nothing is held back."""

    def close(self) -> None:
        """See `Group.close`."""
        self._fleet.close()


def _intake(sensor: WatchedSensor, device: Sequence[str], announced: float | None) -> Intake:
    settings = sensor.settings
    return Intake(sensor.manifest, device, announced, rate=settings.rate, names=settings.channels)
