"""The service: sources, sensors, outbox, sinks and whoever looks on, for months."""

from __future__ import annotations

from edgelstm.service.hooks import ExtraSink, Hooks
from edgelstm.service.service import Service

__all__ = ["ExtraSink", "Hooks", "Service"]
