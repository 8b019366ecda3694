"""`PortDevice`: what all virtual devices have in common, and what may be done to them."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from edgelstm.errors import ConfigurationError, SourceError
from edgelstm_bridge.device_run import DeviceRun
from edgelstm_bridge.faults import Faults, LineNoise
from edgelstm_bridge.mailbox import Action, Mailbox, Request
from edgelstm_bridge.outbox import Outbox, RunReport
from edgelstm_bridge.pacing import Pace, Pacer, Row, RowQueue
from edgelstm_bridge.pseudo_terminal import PseudoPort
from edgelstm_bridge.virtual_firmware import Firmware

_REQUEST_TIMEOUT_S = 30.0


class PortDevice(ABC):
    """A pseudo-terminal that behaves like a serial port with some device behind it.

    While `run` carries rows through it, other threads may `unplug` and `plug` it, `restart` it
    and let it `hang`; so may the iterator of the rows, but there it takes effect only later.

    Args:
        link: a symbolic link to keep to the port, so that its path is known beforehand.
        faults: what goes wrong by itself.
        powered: while unplugged, a device at a pace goes on taking samples, which are lost, until
            it is started on another port; otherwise it waits, and loses none.

    Raises:
        SourceError: `link` exists and is not a symbolic link, or cannot be made.
    """

    def __init__(
        self, *, link: Path | None = None, faults: Faults | None = None, powered: bool = False
    ) -> None:
        self._faults = faults or Faults()
        self._powered = powered
        self._random = Random(self._faults.seed)  # noqa: S311 - noise, no secrets
        self._noise = Random(self._random.random())  # noqa: S311
        # Held by a run: the descriptors must not be closed, and their numbers given to other
        # files, while a run in another thread still uses them.
        self._in_use = threading.Lock()
        self._runner: int | None = None
        self._port = PseudoPort(link)
        self._mailbox = Mailbox()

    @property
    def port(self) -> str:
        """Path of the port to open, which may be another one each time it is plugged in.

        Empty while unplugged. A reader that comes back by itself had better use a link: the path
        of a port that is gone may be another program's terminal by then.
        """
        return self._port.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes the link and the port, with all that was not read.

        Ends a run in another thread first. May be called more than once.
        """
        if self._mailbox.closed:
            return
        self._mailbox.closed = True
        self._mailbox.wake()
        with self._in_use:
            self._port.unplug()
            self._mailbox.refuse_all("The virtual device is closed.")
            self._mailbox.close()

    def run(self, rows: Iterable[Row], *, rate: Pace = None, linger: float = 10.0) -> RunReport:
        """Boots the device, waits for a reader, sends it all rows, and ends.

        Returns when the reader has closed the port, when this device is closed by another
        thread, or `linger` after the end was sent: the reader needs the time to take what
        waits in the port. When a reader leaves early, the rows on their way to it are lost;
        a run given the same iterator goes on with the rest. A reader whose port was unplugged
        has not left: the device waits for it to come back.

        Args:
            rows: the samples to send; taken a few at a time, and in order.
            rate: samples per second; `recorded` for the pace of the rows' own times; None for
                as fast as the reader takes them.
            linger: how long to wait after the end for the reader to leave, in seconds.

        Raises:
            ConfigurationError: the rate is not above 0, or the rows do not fit the device.
            ProtocolError: a row does not fit the channels or cannot be carried.
            SourceError: the link cannot be made anew.
        """
        with self._in_use:
            queue = RowQueue(rows)
            pacer = Pacer(rate, time.monotonic())
            run = DeviceRun(
                self._firmware(queue, pacer),
                queue,
                pacer,
                self._port,
                self._mailbox,
                Outbox(LineNoise(self._faults, self._noise)),
                self._faults,
                powered=self._powered,
            )
            self._runner = threading.get_ident()
            try:
                return run.run(linger)
            finally:
                self._runner = None
                self._mailbox.refuse_all("The run of the virtual device has ended.")

    def unplug(self, *, drain: bool = True) -> None:
        """Pulls the cable during a run; returns when the port is gone.

        Args:
            drain: first send what is in the device, and wait until the reader has taken all of
                it; otherwise pull in the middle of a frame, and lose what waits in the port.

        Raises:
            SourceError: no run is there to do it, or the reader does not take what was sent.
        """
        self._ask(Request(Action.UNPLUG, drain=drain))

    def plug(self) -> None:
        """Plugs the cable in again during a run: a new port, and the link leads to it.

        Raises:
            SourceError: no run is there to do it, or the link cannot be made.
        """
        self._ask(Request(Action.PLUG))

    def restart(self) -> None:
        """Reboots the device during a run; what has not left it yet is gone.

        Raises:
            SourceError: no run is there to do it.
        """
        self._ask(Request(Action.RESTART))

    def hang(self, seconds: float) -> None:
        """Lets the device do nothing during a run for so long; returns when that begins.

        At a pace, the samples that are due meanwhile are overruns: numbered, but never taken.

        Raises:
            ConfigurationError: the time is not above 0.
            SourceError: no run is there to do it.
        """
        if not (seconds > 0 and math.isfinite(seconds)):
            raise ConfigurationError(f"A device hangs for a time above 0 seconds, not {seconds:g}.")
        self._ask(Request(Action.HANG, seconds=seconds))

    @abstractmethod
    def _firmware(self, queue: RowQueue, pacer: Pacer) -> Firmware:
        """Returns what speaks for this device in one run."""

    def _ask(self, request: Request) -> None:
        if self._mailbox.closed:
            raise SourceError("The virtual device is closed.")
        self._mailbox.post(request)
        if threading.get_ident() == self._runner:
            return  # the run cannot wait for itself
        if not request.done.wait(_REQUEST_TIMEOUT_S):
            request.abandoned = True
            raise SourceError(
                f"The virtual device did not {request.action.name.lower()} within "
                f"{_REQUEST_TIMEOUT_S:g} s: is a run under way, and does its reader read?"
            )
        if request.error is not None:
            raise request.error
