"""`Hub`: takes what is new from the feed ten times a second and gives it to all clients.

What is new of a sensor is made into bytes once, whoever looks on, and only if somebody does. A
client that comes, or comes back, first gets the verdicts that it has not seen, in small pieces, so
that the thread of the pipeline is never kept waiting for the interpreter.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgelstm.dashboard.columns import columns_of, pack, thin
from edgelstm.dashboard.view import health_view, sensor_view, to_json
from edgelstm.feed import Feed, SensorInfo
from edgelstm.notice import Notice
from edgelstm.pipeline import Verdict
from edgelstm.verdict_ring import VerdictRing

TICK_S = 0.1
STATUS_EVERY_S = 1.0
MOST_ROWS_A_SECOND = 500
"""More of a sensor are thinned."""
MOST_ROWS_BEFORE = 30_000
"""Of what was before a client came; more are thinned."""
MOST_ALERTS = 100
_PIECE = 512  # verdicts that are made into bytes at a time

_log = logging.getLogger(__name__)


class Client(Protocol):
    """One page that looks on."""

    def send(self, message: bytes | str) -> None:
        """Hands a message over; never waits, never raises."""

    async def sent(self) -> None:
        """Waits until all messages are on their way.

        Raises:
            ConnectionError: it has gone.
        """

    def leave(self) -> None:
        """Says goodbye to it."""

    def drop(self) -> None:
        """Lets go of it at once."""


@dataclass(eq=False)
class _Stream:
    """A ring that clients look at; `epoch` tells it from one with other counts."""

    info: SensorInfo
    ring: VerdictRing
    epoch: str
    cursor: int
    clients: set[Client] = field(default_factory=set)

    def message(self, begin: int, verdicts: list[Verdict], end: int, factor: int) -> bytes:
        header = {
            "sensor": self.info.name,
            "epoch": self.epoch,
            "from": begin,
            "to": end,
            "thinned": factor > 2,
        }
        return pack(header, thin(columns_of(verdicts, self.info), factor))


class Hub:
    """Knows the clients and what each looks at. All of it runs in one event loop.

    Args:
        feed: what is shown.
        clock: seconds, for rates.
    """

    def __init__(self, feed: Feed, clock: Callable[[], float] = time.monotonic) -> None:
        self._feed, self._clock = feed, clock
        self._clients: set[Client] = set()
        self._streams: dict[str, _Stream] = {}
        self._watched: dict[Client, str] = {}
        self._catching_up: dict[Client, asyncio.Task[None]] = {}
        self._status: dict[str, str] = {}
        self._notices: tuple[Notice, ...] = ()
        self._ticked = clock()
        self._due = asyncio.Event()

    @property
    def clients(self) -> int:
        """How many look on."""
        return len(self._clients)

    async def run(self) -> None:
        """Serves the clients until it is cancelled."""
        status = asyncio.create_task(self._tell_status())
        failing = False
        try:
            while True:
                await asyncio.sleep(TICK_S)
                try:
                    self.tick()
                    failing = False
                except Exception:
                    if not failing:
                        _log.exception("The page cannot be given what is new; it is tried again.")
                    failing = True
        finally:
            status.cancel()

    def add(self, client: Client) -> None:
        """Takes a client on and tells it how things are."""
        if not self._clients:
            self._status.clear()  # of the time of those before
        self._clients.add(client)
        for message in self._status.values():
            client.send(message)
        self._due.set()

    async def close(self, patience: float = 1.0) -> None:
        """Says goodbye to all, and lets go of those who do not answer in so many seconds."""
        for client in tuple(self._clients):
            client.leave()
        end = self._clock() + patience
        while self._clients and self._clock() < end:
            await asyncio.sleep(TICK_S / 4)
        for client in tuple(self._clients):
            client.drop()

    def remove(self, client: Client) -> None:
        """Forgets a client."""
        self._leave(client)
        self._watched.pop(client, None)
        self._clients.discard(client)

    def subscribe(self, client: Client, sensor: str, epoch: str = "", since: int = 0) -> None:
        """Shows one sensor to a client, and no other any more.

        Args:
            client: that asks.
            sensor: its name; one that there is not shows nothing, until there is.
            epoch: of the last message that it got of this sensor, if any.
            since: "to" of that message.
        """
        if client not in self._clients:
            return
        self._leave(client)
        self._watched[client] = sensor
        stream = self._stream(sensor)
        if stream is None:
            return
        if not stream.clients:
            stream.cursor = stream.ring.count
        position = since if epoch == stream.epoch else 0
        task = asyncio.create_task(self._catch_up(client, stream, position))
        self._catching_up[client] = task
        task.add_done_callback(lambda _: self._caught_up(client, task))

    def tick(self) -> None:
        """Gives what is new to those who look at it."""
        now = self._clock()
        passed, self._ticked = now - self._ticked, now
        most = max(2.0, MOST_ROWS_A_SECOND * passed)
        for stream in self._streams.values():
            if not stream.clients:
                stream.cursor = stream.ring.count
                continue
            begin = stream.cursor
            end, verdicts = stream.ring.since(begin)
            stream.cursor = end
            if any(verdict.changes for verdict in verdicts):
                self._due.set()
            # Two rows come of each `factor`.
            factor = math.ceil(2 * len(verdicts) / most) if len(verdicts) > most else 1
            piece = _whole_pieces(factor)
            for first in range(0, len(verdicts), piece):
                part = verdicts[first : first + piece]
                upto = min(first + piece, len(verdicts))
                to = end - len(verdicts) + upto
                message = stream.message(begin, part, to, factor)
                begin = to
                for client in tuple(stream.clients):
                    client.send(message)

    async def refresh(self) -> None:
        """Asks the feed how things are, and tells the clients what has changed."""
        asked: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("sensors", self._ask_sensors),
            ("health", self._ask_health),
            ("alerts", self._ask_alerts),
        )
        for kind, ask in asked:
            try:
                view = await asyncio.to_thread(ask)
            except Exception:
                _log.exception("The page could not ask for the %s; it tries again.", kind)
                continue
            if view is None:
                continue
            message = to_json({"type": kind, kind: view})
            if self._status.get(kind) != message:
                self._status[kind] = message
                for client in tuple(self._clients):
                    client.send(message)
        try:
            self._follow_rings()
        except Exception:
            _log.exception("The page cannot follow the sensors; it is tried again.")

    async def _tell_status(self) -> None:
        while True:
            if self._clients:
                await self.refresh()
            try:
                await asyncio.wait_for(self._due.wait(), STATUS_EVERY_S)
            except TimeoutError:
                continue
            self._due.clear()
            await asyncio.sleep(TICK_S)  # what became known may take a moment to be told

    def _ask_sensors(self) -> list[dict[str, Any]]:
        return [sensor_view(info) for info in self._feed.sensors()]

    def _ask_health(self) -> dict[str, Any]:
        return health_view(self._feed.health())

    def _ask_alerts(self) -> list[dict[str, Any]] | None:
        """None when they are as before."""
        notices = tuple(self._feed.alerts(MOST_ALERTS))
        if notices == self._notices and "alerts" in self._status:
            return None
        self._notices = notices
        return [notice.to_dict() for notice in notices]

    def _stream(self, sensor: str) -> _Stream | None:
        if sensor not in self._streams:
            infos = {info.name: info for info in self._feed.sensors()}
            try:
                ring = self._feed.ring(sensor)
            except KeyError:
                return None
            if sensor not in infos:
                return None
            self._streams[sensor] = _Stream(infos[sensor], ring, secrets.token_hex(4), ring.count)
        return self._streams[sensor]

    def _follow_rings(self) -> None:
        """Goes over to the ring and the artifact that a sensor has now."""
        infos = {info.name: info for info in self._feed.sensors()}
        for name, stream in tuple(self._streams.items()):
            try:
                same = stream.ring is self._feed.ring(name) and stream.info == infos.get(name)
            except KeyError:
                same = False
            if not same:
                del self._streams[name]
        for client, name in tuple(self._watched.items()):
            if name not in self._streams and name in infos:
                self.subscribe(client, name)

    def _leave(self, client: Client) -> None:
        for stream in self._streams.values():
            stream.clients.discard(client)
        task = self._catching_up.pop(client, None)
        if task is not None:
            task.cancel()

    async def _catch_up(self, client: Client, stream: _Stream, position: int) -> None:
        """Sends what there is up to where the others are, which go on, then joins them."""
        before = len(stream.ring.since(position)[1])
        factor = math.ceil(2 * before / MOST_ROWS_BEFORE) if before > MOST_ROWS_BEFORE else 1
        piece = _whole_pieces(factor)
        while position < stream.cursor:
            end, verdicts = stream.ring.since(position)
            first = end - len(verdicts)
            part = verdicts[: max(0, min(piece, stream.cursor - first))]
            if not part:
                break
            position = first + len(part)
            client.send(stream.message(first, part, position, factor))
            try:
                await client.sent()
            except ConnectionError:
                return
        # Nothing was awaited since: what comes next for the others comes next for it.
        stream.clients.add(client)

    def _caught_up(self, client: Client, task: asyncio.Task[None]) -> None:
        if self._catching_up.get(client) is task:
            del self._catching_up[client]
        if not task.cancelled() and task.exception() is not None:
            _log.error("The page could not be given what was before.", exc_info=task.exception())


def _whole_pieces(factor: int) -> int:
    """Verdicts in a piece, so that thinning does not begin anew within a bucket."""
    return max(1, _PIECE // factor) * factor
