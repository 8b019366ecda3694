"""`DeviceRun`: one run of a virtual device, from boot until its reader leaves. The only loop."""

from __future__ import annotations

import contextlib
import math
import os
import select
import time

from edgelstm.errors import EdgelstmError, SourceError
from edgelstm_bridge.faults import Faults
from edgelstm_bridge.mailbox import Action, Mailbox, Request
from edgelstm_bridge.outbox import Fate, Outbox, RunReport
from edgelstm_bridge.pacing import BATCH, Pacer, Row, RowQueue
from edgelstm_bridge.pseudo_terminal import PseudoPort
from edgelstm_bridge.virtual_firmware import Firmware

_READ_SIZE = 4096
_RECONNECT_POLL_S = 0.01
_DRAIN_POLL_S = 0.001
_HALF_FRAME_S = 0.005  # for the reader to take it
_LONGEST_WAIT_S = 1.0
# Readers throw away what is in a port when they open it.
_SETTLE_S = 0.1
# How long a fault waits for the reader to take everything before it unplugs all the same.
_FAULT_DRAIN_S = 5.0


class DeviceRun:
    """Carries rows from a queue through a firmware into a port.

    Args:
        firmware: speaks for the device.
        queue: the rows.
        pacer: says when they are due.
        port: where they go.
        mailbox: where requests come from.
        outbox: empty.
        faults: what goes wrong.
        powered: whether a device at a pace takes samples while it is unplugged.
    """

    def __init__(
        self,
        firmware: Firmware,
        queue: RowQueue,
        pacer: Pacer,
        port: PseudoPort,
        mailbox: Mailbox,
        outbox: Outbox,
        faults: Faults,
        *,
        powered: bool,
    ) -> None:
        self._firmware = firmware
        self._queue = queue
        self._pacer = pacer
        self._port = port
        self._mailbox = mailbox
        self._outbox = outbox
        self._faults = faults
        self._powered = powered and pacer.is_paced
        self._restarts = 0
        self._unplugs = 0
        self._finished = False
        self._leave_at = math.inf
        self._opened_at = math.inf
        self._hang_until = 0.0
        self._plug_at = math.inf
        self._cut: Request | None = None  # the unplugging that waits for the reader
        self._cut_by = math.inf
        self._faults_from = 0  # the readings sent when faults came last

    def run(self, linger: float) -> RunReport:
        """Boots, and goes on until the reader leaves, the device is closed or all is over.

        Args:
            linger: how long to wait after the end for the reader to leave, in seconds.
        """
        self._outbox.add(self._firmware.boot())
        try:
            while not self._mailbox.closed and time.monotonic() < self._leave_at:
                self._obey()
                if self._turn(linger):
                    break
        finally:
            if self._cut is not None:
                self._cut.finish(SourceError("The run of the device has ended."))
        first, left_behind = self._cut_outbox()
        self._outbox.write_off(first, len(left_behind), Fate.END)
        return RunReport(
            sent=self._outbox.sent,
            finished=self._finished,
            restarts=self._restarts,
            unplugs=self._unplugs,
            fates=dict(sorted(self._outbox.fates.items())),
        )

    def _turn(self, linger: float) -> bool:
        """Does what is to be done now, or waits for the next; True when the reader has left."""
        now = time.monotonic()
        if now >= self._plug_at:
            self._plug()
        if self._cut is not None and self._may_cut(self._cut, now):
            self._unplug(self._cut)
            return False  # whoever wanted that may want to have it plugged in next
        if self._hang_until:
            if now < self._hang_until:
                self._wait(None, 0, min(self._hang_until, self._plug_at))
                return False
            self._hang_until = 0.0
            self._skip_due(Fate.HANG)
        self._work(now)
        if self._firmware.ended and not self._outbox.data and not self._finished:
            self._finished = True
            self._leave_at = now + linger
        return self._talk(now)

    # What the device does by itself

    def _work(self, now: float) -> None:
        """Takes the samples that are due."""
        firmware = self._firmware
        if not firmware.running or self._cut is not None:
            return
        if not firmware.heard:
            if self._powered and self._unplugs:
                self._skip_due(Fate.UNPLUG)
            return
        if self._outbox.data:
            return
        if self._queue.peek() is None:
            self._outbox.add(firmware.end())
            return
        if self._misbehave(now):
            return
        limit = self._faults.until_next(self._outbox.sent)
        first = self._queue.index
        rows = self._pacer.take(self._queue, now, min(limit or BATCH, BATCH))
        if rows:
            frames = firmware.make(rows)
            self._outbox.add_rows(first, rows, frames, self._spoil(first, frames))

    def _spoil(self, first: int, frames: list[bytes]) -> dict[int, Fate]:
        """Loses and damages the frames whose turn it is."""
        fates: dict[int, Fate] = {}
        for period, fate in ((self._faults.lose, Fate.LOSE), (self._faults.damage, Fate.DAMAGE)):
            if not period:
                continue
            for position in range(-(first + 1) % period, len(frames), period):
                if not frames[position]:
                    continue
                fates[first + position] = fate
                lost = fate is Fate.LOSE
                frames[position] = b"" if lost else self._firmware.damage(frames[position])
        return fates

    def _misbehave(self, now: float) -> bool:
        """Does what the faults want after as many readings; True if it did."""
        sent, faults = self._outbox.sent, self._faults
        if sent == self._faults_from:
            return False
        self._faults_from = sent
        due = [n and sent % n == 0 for n in (faults.restart, faults.unplug, faults.hang)]
        restart, unplug, hang = due
        if restart:
            self._restart()
        if unplug:
            self._cut = Request(Action.UNPLUG, drain=True, seconds=faults.unplug_seconds)
            self._cut_by = now + _FAULT_DRAIN_S
        if hang:
            self._hang_until = now + faults.hang_seconds
        return any(due)

    def _skip_due(self, fate: Fate) -> None:
        """Uses up the rows that are due, and sends none."""
        if not (self._pacer.is_paced and self._firmware.running):
            return
        now = time.monotonic()
        while True:
            first = self._queue.index
            rows = self._pacer.take(self._queue, now)
            if not rows:
                return
            self._firmware.skip(len(rows), overrun=fate is Fate.HANG)
            self._outbox.write_off(first, len(rows), fate)

    def _restart(self) -> None:
        first, gone = self._cut_outbox()
        self._outbox.write_off(first, len(gone), Fate.RESTART)
        self._restarts += 1
        self._outbox.add(self._firmware.boot())

    def _cut_outbox(self) -> tuple[int, list[Row]]:
        """Throws away what has not left; returns the rows that it carried, and their index."""
        left_behind = self._outbox.cut()
        return self._queue.index - len(left_behind), left_behind

    # What others want

    def _obey(self) -> None:
        while self._mailbox.requests and self._cut is None:
            request = self._mailbox.requests.popleft()
            if request.abandoned:
                continue
            if request.action is Action.UNPLUG and self._port.master is not None:
                self._cut = request
                self._cut_by = math.inf
                return
            try:
                if request.action is Action.PLUG:
                    self._plug()
                elif request.action is Action.RESTART:
                    self._restart()
                elif request.action is Action.HANG:
                    self._hang_until = time.monotonic() + request.seconds
            except EdgelstmError as error:
                request.finish(error)
            else:
                request.finish()

    # The cable

    def _may_cut(self, request: Request, now: float) -> bool:
        """Whether the port can be unplugged now."""
        if request.abandoned:
            self._cut = None
            return False
        if not request.drain or now >= self._cut_by:
            return True
        try:
            return (not self._outbox.data or not self._port.is_open()) and self._port.is_drained(
                self._firmware.filler
            )
        except SourceError as error:
            if self._cut_by < math.inf:  # a fault unplugs all the same
                return True
            self._cut = None
            request.finish(error)
            return False

    def _unplug(self, request: Request) -> None:
        """Takes the port away, and what is in the device with it."""
        if not request.drain:
            self._send_half_a_frame()
        self._cut = None
        self._unplugs += 1
        first, left_behind = self._cut_outbox()
        firmware = self._firmware
        firmware.rewind(len(left_behind))
        if self._powered and firmware.running:
            firmware.skip(len(left_behind), overrun=False)
            self._outbox.write_off(first, len(left_behind), Fate.UNPLUG)
        else:
            self._queue.put_back(left_behind)
            firmware.running = False
        firmware.heard = False
        self._port.unplug()
        self._opened_at = math.inf
        if self._cut_by < math.inf:
            self._plug_at = time.monotonic() + request.seconds
        request.finish()

    def _send_half_a_frame(self) -> None:
        """Sees to it that the cable is pulled in the middle of a frame."""
        firmware, outbox = self._firmware, self._outbox
        if outbox.data or not (firmware.running and firmware.heard):
            return
        first = self._queue.index
        rows = self._queue.take(1)
        outbox.add_rows(first, rows, firmware.make(rows), {})
        with contextlib.suppress(OSError):
            outbox.wrote(self._port.write(outbox.data[: len(outbox.data) // 2]))
            time.sleep(_HALF_FRAME_S)

    def _plug(self) -> None:
        self._plug_at = math.inf
        self._port.plug()
        self._opened_at = math.inf

    # The port

    def _talk(self, now: float) -> bool:
        """Waits for the port or for time to pass; True when the reader has left."""
        firmware, outbox, master = self._firmware, self._outbox, self._port.master
        wake_at = min(self._leave_at, self._plug_at)
        if self._cut is not None:
            wake_at = now + _DRAIN_POLL_S
        elif firmware.running and not (outbox.data and firmware.heard) and self._queue.peek():
            wake_at = min(wake_at, self._pacer.next_at)
        if master is None:
            self._wait(None, 0, wake_at)
            return False
        if self._opened_at == math.inf:
            if not self._port.is_open():
                self._wait(None, 0, min(wake_at, now + _RECONNECT_POLL_S))
                return False
            self._opened_at = now
        if not firmware.heard:
            settled_at = self._opened_at + _SETTLE_S
            if now >= settled_at:
                firmware.opened()
                wake_at = now if firmware.heard else wake_at
            else:
                wake_at = min(wake_at, settled_at)
        may_write = firmware.heard or now >= self._opened_at + _SETTLE_S
        interest = select.POLLIN | (select.POLLOUT if outbox.data and may_write else 0)
        events = self._wait(master, interest, wake_at)
        if events & select.POLLHUP:
            self._opened_at = math.inf
            return firmware.heard and self._cut is None
        # The reader may hang up at any time after the poll; the next poll will tell.
        with contextlib.suppress(OSError):
            if events & select.POLLIN:
                outbox.add(firmware.receive(os.read(master, _READ_SIZE)))
            if events & select.POLLOUT:
                outbox.wrote(self._port.write(outbox.data))
        return False

    def _wait(self, descriptor: int | None, events: int, wake_at: float) -> int:
        """Returns the events on a descriptor; 0 when it is `wake_at`, or a call comes, first."""
        poller = select.poll()
        poller.register(self._mailbox.receiver, select.POLLIN)
        if descriptor is not None:
            poller.register(descriptor, events)
        timeout = min(max(0.0, wake_at - time.monotonic()), _LONGEST_WAIT_S)
        # Rounded up, so that it does not wake a little early and spin.
        found = dict(poller.poll(math.ceil(timeout * 1000)))
        if self._mailbox.receiver in found:
            self._mailbox.clear()
        return found.get(descriptor, 0) if descriptor is not None else 0
