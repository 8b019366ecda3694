"""From settings to sensors: artifacts are loaded and checked, pipelines made and restored."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgelstm.calibration_file import load_calibrated
from edgelstm.configuration import RunSettings, SensorSettings
from edgelstm.errors import StateError
from edgelstm.fleet import Fleet
from edgelstm.outbox import Outbox
from edgelstm.pipeline import Pipeline, Stepped
from edgelstm.pipeline_state import PipelineState
from edgelstm.service.groups import Single, Together
from edgelstm.service.lane import Group, one_rate, sensors_of
from edgelstm.service.sensor import WatchedSensor
from edgelstm.session import Session
from edgelstm.signing import TrustedKeys

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crew:
    """What watches the sensors of a configuration.

    Attributes:
        sensors: by name, in the order of the configuration.
        groups: of them, by the name of their source.
    """

    sensors: Mapping[str, WatchedSensor]
    groups: Mapping[str, Sequence[Group]]

    def close(self) -> None:
        """Lets go of the models."""
        for groups in self.groups.values():
            for group in groups:
                group.close()


def build_crew(settings: RunSettings, outbox: Outbox) -> Crew:
    """Loads every artifact and makes its pipeline.

    Args:
        settings: the configuration.
        outbox: where notices go.

    Raises:
        ArtifactError: an artifact is damaged, computes something else here, or cannot watch.
        SignatureError: this device has public keys, and one of them cannot be used or an artifact
            is signed by none of them.
        MissingDependencyError: it has public keys, and nothing that checks signatures.
        BackendError: no runtime can run it.
        ConfigurationError: a setting does not fit it.
    """
    groups: dict[str, list[Group]] = {}
    sensors: dict[str, WatchedSensor] = {}
    trusted = TrustedKeys.of_device(settings.public_keys)
    if trusted:
        places = " and ".join(ring.place for ring in trusted.rings)
        log.info("Only artifacts signed by a key of %s are run.", places)
    try:
        for source, names in _together(settings):
            chosen = {name: settings.sensors[name] for name in names}
            group = _build(chosen, settings.name, outbox, trusted)
            groups.setdefault(source, []).append(group)
            sensors |= {sensor.name: sensor for sensor in group.sensors}
        for of_source in groups.values():
            one_rate(sensors_of(of_source))
    except BaseException:
        Crew(sensors, groups).close()
        raise
    return Crew({name: sensors[name] for name in settings.sensors}, groups)


def source_of(sensor: SensorSettings, settings: RunSettings) -> str:
    """The name of a sensor's source; the only one where it names none."""
    return sensor.source or next(iter(settings.sources))


def restore(sensor: WatchedSensor, saved: bytes | None) -> None:
    """Lets a sensor go on where it was when its state was saved, if that can be.

    Args:
        sensor: one that has seen no reading.
        saved: what `PipelineState.save` gave; None for nothing.
    """
    if saved is not None:
        try:
            sensor.pipeline.state = PipelineState.load(saved)
        except StateError as error:
            log.warning("%s: %s", sensor.name, error, extra=sensor.log_fields)
        else:
            sensor.resume()
    sensor.close_strays("edgelstm started afresh")


def _together(settings: RunSettings) -> list[tuple[str, list[str]]]:
    """Which sensors can run in one model: each time their source, and their names.

    They have readings at the same moments, and need the same of the model.
    """
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, sensor in settings.sensors.items():
        source = source_of(sensor, settings)
        alone = sensor.delegate is not None or sensor.rate == "resample"
        kind = sensor.artifact.absolute(), sensor.backend, sensor.calibration
        alike.setdefault((source, *kind, name if alone else ""), []).append(name)
    return [(str(key[0]), names) for key, names in alike.items()]


def _build(
    chosen: Mapping[str, SensorSettings], gateway: str, outbox: Outbox, trusted: TrustedKeys
) -> Group:
    """A group of sensors that have the same artifact."""
    first = next(iter(chosen.values()))
    session = open_session(first, trusted)
    if len(chosen) == 1:
        try:
            pipeline = make_pipeline(session, first)
            return Single(WatchedSensor(next(iter(chosen)), first, pipeline, gateway, outbox))
        except BaseException:
            session.close()
            raise
    session.close()  # it has made sure that the artifact is right here
    each = list(chosen.values())
    fleet = Fleet(
        session.artifact,
        len(each),
        lambda number, row: make_pipeline(row, each[number]),
        backend=first.backend,
    )
    try:
        pipelines = zip(chosen.items(), fleet.pipelines, strict=True)
        return Together([WatchedSensor(*item, p, gateway, outbox) for item, p in pipelines], fleet)
    except BaseException:
        fleet.close()
        raise


def make_pipeline(session: Stepped, settings: SensorSettings) -> Pipeline:
    """A pipeline as a sensor's settings have it.

    Raises:
        ArtifactError: the artifact has no detection.
        ConfigurationError: a setting makes no sense.
    """
    detection = settings.detection
    return Pipeline(
        session,
        false_alarms_per_day=detection.false_alarms_per_day,
        policy=detection.policy(),
        threshold=detection.threshold,
        any_rate=settings.rate == "any",
    )


def open_session(settings: SensorSettings, trusted: TrustedKeys | None = None) -> Session:
    """Loads a sensor's artifact, and makes sure that it computes here what it did when made.

    Args:
        settings: of the sensor.
        trusted: whose artifacts are accepted; None for everybody's.

    Raises:
        ArtifactError: it is damaged, or its golden vectors do not hold; or the calibration beside
            it is damaged or another model's.
        SignatureError: nobody who is trusted signed it, or it was changed since.
        BackendError: no runtime can run it.
        ConfigurationError: a setting makes no sense.
    """
    session, taken = load_calibrated(
        settings.artifact,
        settings.backend,
        settings.delegate,
        calibration=settings.calibration,
        trusted=trusted,
    )
    if taken is not None:
        log.info("Using the calibration in %s.", taken)
    return session
