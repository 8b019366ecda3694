"""Figures for Prometheus, and `/healthz`."""

from edgelstm.metrics.server import MetricsServer

__all__ = ["MetricsServer"]
