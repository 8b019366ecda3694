"""`VirtualDevice`: a device without hardware, on a pseudo-terminal, for tests and demos."""

from __future__ import annotations

from pathlib import Path

from edgelstm_bridge.faults import Faults
from edgelstm_bridge.messages import Hello
from edgelstm_bridge.outbox import Fate, RunReport
from edgelstm_bridge.pacing import Pace, Pacer, Row, RowQueue
from edgelstm_bridge.port_device import PortDevice
from edgelstm_bridge.virtual_firmware import FrameFirmware

__all__ = ["Fate", "Pace", "Row", "RunReport", "VirtualDevice"]


class VirtualDevice(PortDevice):
    """A pseudo-terminal that behaves like a serial port with edgelstm firmware behind it.

    Args:
        hello: what the device says about itself. With `clock_epoch_ms` other than 0 it has a
            wall clock: each hello then carries the time of the next row as its epoch. Each boot
            has a boot_id of its own; each run is a boot.
        link: as for `PortDevice`, and so are the others.
        faults: what goes wrong by itself.
        powered: what a device at a pace does while it is unplugged.

    Raises:
        SourceError: as for `PortDevice`.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        link: Path | None = None,
        faults: Faults | None = None,
        powered: bool = False,
    ) -> None:
        super().__init__(link=link, faults=faults, powered=powered)
        self._hello = hello

    def _firmware(self, queue: RowQueue, pacer: Pacer) -> FrameFirmware:
        return FrameFirmware(self._hello, queue, pacer, self._random)
