"""What must go together in a configuration: names, files, ports."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from edgelstm.configuration.problems import Problems, did_you_mean
from edgelstm.configuration.secret_table import how_to_give
from edgelstm.configuration.settings import SensorSettings, SinkSettings, SourceSettings

PASSWORD_IN_URL = re.compile(r"//([^/?@:]*):[^/?@]*@")
"""What is taken out of a URL, but for the user."""

_ONE_READER = ("/", "serial:", "stdin:")  # what only one can read from at a time


def check_together(
    sources: Mapping[str, SourceSettings],
    sensors: Mapping[str, SensorSettings],
    sinks: Mapping[str, SinkSettings],
    singles: Mapping[str, Any],
    given: Mapping[str, Collection[str]],
    problems: Problems,
    *,
    elsewhere: bool = False,
) -> dict[str, SensorSettings]:
    """Checks what was read against each other, and against the disk.

    Args:
        sources: that could be read, by name.
        sensors: that could be read, by name.
        sinks: that could be read, by name.
        singles: the other tables by name; None for one that could not be read.
        given: names of all sources, sensors and sinks that the file has, also of those with
            mistakes.
        problems: takes the mistakes.
        elsewhere: whether the service runs on another computer, whose folders are not here.

    Returns:
        The sensors, each with the name of its source.
    """
    if not problems:  # a table that is spelt wrongly is missing, too
        _check_presence(given, problems)
    sensors = {
        name: _with_source(name, sensor, given["sources"], problems)
        for name, sensor in sensors.items()
    }
    used = {sensor.source for sensor in sensors.values()}
    # A sensor that names none, or a wrong one, is told already.
    if len(sensors) == len(given["sensors"]) > 0 and used <= set(given["sources"]):
        for name in given["sources"]:
            if name not in used:
                problems.about(
                    ("sources", name), "is used by no sensor; name it in one, or take it out"
                )
    for name, sensor in sensors.items():
        if wrong := _wrong_with(sensor.artifact, Path.is_file, "which is no file"):
            problems.about(("sensors", name, "artifact"), f"names {sensor.artifact}, {wrong}")
    _check_sources(sources, problems, elsewhere=elsewhere)
    _check_sinks(sinks, given["sensors"], problems)
    _check_servers(singles, problems)
    return sensors


def check_public_keys(paths: Iterable[Path], problems: Problems) -> None:
    """Checks that the files of the keys are there.

    Args:
        paths: the files.
        problems: takes the mistakes.
    """
    for path in paths:
        if wrong := _wrong_with(path, Path.is_file, "which is no file"):
            problems.about(("public_keys",), f"names {path}, {wrong}")


def _check_presence(given: Mapping[str, Collection[str]], problems: Problems) -> None:
    if not given["sources"]:
        problems.add(
            ("sources",), 'There is no source; add [sources.board] with port = "/dev/ttyACM0".'
        )
    if not given["sensors"]:
        problems.add(
            ("sensors",), 'There is no sensor; add [sensors.pump] with artifact = "pump.tflite".'
        )


def _with_source(
    name: str, sensor: SensorSettings, sources: Collection[str], problems: Problems
) -> SensorSettings:
    if not sensor.source and len(sources) == 1:
        return replace(sensor, source=next(iter(sources)))
    if not sensor.source and sources:
        problems.about(
            ("sensors", name),
            f"needs the key 'source', for there are several: {', '.join(sources)}",
        )
    elif sensor.source not in sources and sources:
        hint = did_you_mean(sensor.source, sources, f"; there are {', '.join(sources)}")
        problems.about(
            ("sensors", name, "source"),
            f"is {sensor.source!r}, which is no source{hint}".removesuffix("."),
        )
    return sensor


def _check_sources(
    sources: Mapping[str, SourceSettings], problems: Problems, *, elsewhere: bool
) -> None:
    for name, source in sources.items():
        if PASSWORD_IN_URL.search(source.port):
            problems.about(
                ("sources", name, "port"),
                "has a password in it; leave it out (mqtt://user@host/topic) and write password = "
                + how_to_give("password"),
            )
        if source.raw is None or elsewhere:
            continue
        folder = source.raw.parent
        if wrong := _wrong_with(folder, Path.is_dir, "which is no folder"):
            problems.about(("sources", name, "raw"), f"is to be in {folder}, {wrong}")
    for (first, one), (second, other) in combinations(sources.items(), 2):
        if one.port == other.port and one.port.startswith(_ONE_READER):
            problems.about(
                ("sources", second, "port"),
                f"is that of sources.{first}; let their sensors share that source",
            )
        if one.raw is not None and one.raw == other.raw:
            problems.about(("sources", second, "raw"), f"is that of sources.{first}; take another")


def _wrong_with(path: Path, fits: Callable[[Path], bool], otherwise: str) -> str:
    """What is wrong with a path; "" when nothing is."""
    try:
        return "" if fits(path) else otherwise
    except OSError as error:  # of a folder that this user may not look into
        return f"which cannot be looked at: {error.strerror}"


def _check_sinks(
    sinks: Mapping[str, SinkSettings], sensors: Collection[str], problems: Problems
) -> None:
    for name, sink in sinks.items():
        for sensor in sink.options.sensors:
            if sensor not in sensors:
                hint = did_you_mean(sensor, sensors).removesuffix(".")
                problems.about(
                    ("sinks", name, "sensors"), f"has {sensor!r}, which is no sensor{hint}"
                )
    for (first, one), (second, other) in combinations(sinks.items(), 2):
        if one.options == other.options and one.config == other.config:
            problems.about(
                ("sinks", second), f"is the same as sinks.{first}; every alert would come twice"
            )


def _check_servers(singles: Mapping[str, Any], problems: Problems) -> None:
    dashboard, metrics = singles.get("dashboard"), singles.get("metrics")
    if dashboard is not None and dashboard.public and dashboard.token is None:
        problems.about(
            ("dashboard", "host"),
            f"lets others than this computer in, so it needs token = {how_to_give('token')}",
        )
    if (
        dashboard is not None
        and metrics is not None
        and dashboard.port == metrics.port != 0
        and dashboard.host == metrics.host
    ):
        problems.about(("metrics", "port"), "is that of the dashboard; take another")
