"""The configuration of `edgelstm run`: its settings, and the TOML file they are read from."""

from __future__ import annotations

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

__all__ = [
    "DashboardSettings",
    "DetectionSettings",
    "MetricsSettings",
    "OutboxSettings",
    "RunSettings",
    "SensorSettings",
    "SinkSettings",
    "SourceSettings",
]
