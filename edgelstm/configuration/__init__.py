"""The configuration of `edgelstm run`: its settings, and the TOML file they are read from."""

from __future__ import annotations

from edgelstm.configuration.changes import Changes, changed
from edgelstm.configuration.reading import read_settings, read_state_directory
from edgelstm.configuration.settings import (
    DashboardSettings,
    DetectionSettings,
    MetricsSettings,
    OutboxSettings,
    RunSettings,
    SensorSettings,
    SinkSettings,
    SourceSettings,
)
from edgelstm.configuration.template import write_template

__all__ = [
    "Changes",
    "DashboardSettings",
    "DetectionSettings",
    "MetricsSettings",
    "OutboxSettings",
    "RunSettings",
    "SensorSettings",
    "SinkSettings",
    "SourceSettings",
    "changed",
    "read_settings",
    "read_state_directory",
    "write_template",
]
