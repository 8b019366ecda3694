"""The outbox: notices of alerts, on the disk before they are announced."""

from edgelstm.outbox.archive import Archive
from edgelstm.outbox.cursors import Delivery
from edgelstm.outbox.outbox import FILE, Outbox

__all__ = ["FILE", "Archive", "Delivery", "Outbox"]
