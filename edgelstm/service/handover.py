"""From one crew to the next, while readings come: what a reload does to lanes and sensors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from edgelstm.errors import ConfigurationError
from edgelstm.service.building import Crew
from edgelstm.service.lane import Group, Lane, one_rate, sensors_of

log = logging.getLogger(__name__)


def kept_lanes(
    lanes: Mapping[str, Lane], crew: Crew, changed_sources: frozenset[str]
) -> dict[str, Lane]:
    """The lanes that may go on, with other groups.

    Args:
        lanes: by name.
        crew: that is to take over.
        changed_sources: names of sources that are others now, or are gone.

    Raises:
        ConfigurationError: the source of one lacks what its new groups need.
    """
    kept = {}
    for name, lane in lanes.items():
        groups = crew.groups.get(name)
        if groups is None or name in changed_sources or not lane.alive:
            continue
        if one_rate(lane.sensors) != one_rate(sensors_of(groups)):
            continue
        try:
            lane.fits(groups)
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from error
        kept[name] = lane
    return kept


def hand_over(lanes: Mapping[str, Lane], crew: Crew, old: Crew) -> list[Group]:
    """Puts the groups of a crew into the place of those of lanes, between two readings.

    Args:
        lanes: by name; those that may go on.
        crew: that takes over.
        old: that it takes over from.

    Returns:
        The groups that the lanes had; whoever calls closes them.
    """
    before: list[Group] = []
    with ExitStack() as stack:
        # All at once: a sensor may have moved from one to another.
        for lane in lanes.values():
            stack.enter_context(lane.lock)
        for lane in lanes.values():
            for group in lane.groups:
                group.flush()
        for name, lane in lanes.items():
            adopt(crew.groups[name], old)
            before += lane.swap(crew.groups[name])
    return before


def adopt(groups: Sequence[Group], old: Crew) -> None:
    """Lets sensors go on where those of the same names are."""
    for sensor in sensors_of(groups):
        before = old.sensors.get(sensor.name)
        if before is not None and not sensor.adopt(before):
            log.warning(
                "%s: the model or its calibration is another; it warms up.",
                sensor.name,
                extra=sensor.log_fields,
            )
