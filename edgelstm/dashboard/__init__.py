"""A page with the live signal, its prediction, the score and the alerts, for a browser nearby."""

from edgelstm.dashboard.dashboard import Dashboard
from edgelstm.dashboard.fake import FakeFeed

__all__ = ["Dashboard", "FakeFeed"]
