"""The settings of `edgelstm run`: from a file, or from options for the simple case."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgelstm.commands.detection_options import take_detection
from edgelstm.commands.sourcing import as_rate
from edgelstm.errors import ConfigurationError

if TYPE_CHECKING:
    from edgelstm.configuration import RunSettings

CONFIGURATION = ".toml"
"""What the name of a configuration ends in."""


def settings_of(context: click.Context, target: Path, options: dict[str, Any]) -> RunSettings:
    """What the command line asks for.

    Args:
        context: of the command.
        target: an artifact, or a configuration.
        options: of the command.

    Raises:
        ConfigurationError: the options do not go together, or the file has a mistake.
    """
    if target.suffix == CONFIGURATION:
        from edgelstm.configuration import read_settings

        given = [
            param.opts[0]
            for param in context.command.params
            if param.name in options
            and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
        ]
        if given:
            raise ConfigurationError(
                f"{', '.join(given)} beside {target}: what a configuration file says is said "
                "there; put it into the file."
            )
        return read_settings(target)
    if options["port"] is None:
        raise click.UsageError(
            "Missing option '--port', which says where the readings come from; or give a "
            "configuration, a file that ends in .toml."
        )
    return _from_options(target, options)


def _from_options(artifact: Path, options: dict[str, Any]) -> RunSettings:
    from edgelstm.configuration import (
        DashboardSettings,
        DetectionSettings,
        MetricsSettings,
        RunSettings,
        SensorSettings,
        SinkSettings,
        SourceSettings,
    )
    from edgelstm.files import check_output
    from edgelstm.sinks import SinkOptions
    from edgelstm.sinks.jsonl import JsonlSink

    chosen = take_detection(options)
    policy = chosen["policy"]
    shaped = {} if policy is None else {name: getattr(policy, name) for name in _POLICY}
    detection = DetectionSettings(
        false_alarms_per_day=chosen["false_alarms_per_day"],
        threshold=chosen["threshold"],
        **shaped,
    )
    if options["raw"] is not None:
        check_output(options["raw"], force=False)
    source = SourceSettings(
        port=options["port"],
        baud_rate=options["baud_rate"],
        format=options["format_"],
        raw=options["raw"],
        timeout=options["timeout"],
    )
    sensor = SensorSettings(
        artifact=artifact,
        rate=as_rate(
            set_rate=options["set_rate"],
            resample=options["resample"],
            any_rate=options["any_rate"],
        ),
        calibration=not options["no_calibration"],
        backend=options["backend"],
        delegate=options["delegate"],
        detection=detection,
    )
    sinks = {}
    if (path := options["alerts_file"]) is not None:
        config = JsonlSink.Config(path=path)
        sinks["alerts"] = SinkSettings("alerts", SinkOptions("jsonl"), config)
    return RunSettings(
        name=as_name(socket.gethostname()),
        sources={"device": source},
        sensors={as_name(artifact.stem): sensor},
        sinks=sinks,
        state_directory=options["state"],
        dashboard=DashboardSettings() if options["dashboard"] else None,
        metrics=MetricsSettings() if options["metrics"] else None,
    )


_POLICY = ("k", "n", "minimum_duration", "quiet", "cool_down", "release")


def as_name(text: str) -> str:
    """A text with nothing but letters, digits, - and _: what a sensor may be called."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64] or "sensor"
