"""What the tests of the outbox run in processes of their own: `python outbox_child.py WHAT ...`.

Nothing here is a test; see `test_outbox_kill.py` and `test_outbox_full_disk.py`.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.alert import Alert, AlertKind
from edgelstm.evidence import Evidence
from edgelstm.notice import Notice
from edgelstm.outbox import FILE, Outbox
from edgelstm.pipeline_state import PipelineState
from edgelstm.state import State

SENSORS = ("boiler", "fan", "pump")


def notice(alert_id: str, place: int, event: str, sensor: str) -> Notice:
    closed = 1_000.0 + place if event == "closed" else None
    alert = Alert(1, AlertKind.ANOMALY, 1_000.0, 3.5, closed=closed, threshold=2.0)
    return Notice(
        f"{alert_id}/{place}", alert_id, event, 1_000.0 + place, "gate", sensor, alert, event
    )


def evidence(readings: int, seed: int) -> Evidence:
    rows = np.random.default_rng(seed).random((readings, 3))
    values = tuple((a, b) for a, b, _ in rows.tolist())
    scores = tuple(rows[:, 2].tolist())
    times = tuple(1_000.0 + i for i in range(readings))
    names = ("flow", "level")
    return Evidence(names, names, times, values, values, scores, (2.0,) * readings)


def state(count: int) -> PipelineState:
    """A state that says how many notices there were so far."""
    rest = json.dumps({"version": 2, "count": count})
    return PipelineState(State({"h": np.zeros(64, np.float32)}, "0" * 64, None, 0), rest)


def count_in(saved: bytes | None) -> int:
    if saved is None:
        return 0
    with zipfile.ZipFile(io.BytesIO(saved)) as archive:
        return int(json.loads(archive.read("pipeline.json"))["count"])


class Courier(threading.Thread):
    """Takes every notice of a sink to a callable, in order, and marks it only then."""

    def __init__(self, outbox: Outbox, sink: str, send: Callable[[int, Notice], None]) -> None:
        super().__init__(daemon=True)
        self._outbox, self._sink, self._send = outbox, sink, send
        self.stop = False

    def run(self) -> None:
        seen = -1
        while not self.stop:
            for sequence, one in self._outbox.pending(self._sink):
                self._send(sequence, one)
                self._outbox.mark(self._sink, sequence, one.sensor)
            seen = self._outbox.wait(seen, 0.05)


# Until it is killed


def begin_sending(outbox: Outbox, folder: Path) -> None:
    """Notices become lines of a file, which is the receiver."""
    received = os.open(folder / "received", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def send(_: int, one: Notice) -> None:
        os.write(received, f"{one.sensor} {one.id}\n".encode())

    outbox.register(["file"])
    Courier(outbox, "file", send).start()


def work(folder: Path) -> None:
    """Submits alerts, sends them to a file, and says on standard output what is on the disk."""
    outbox = Outbox(folder / FILE, max_bytes=16_000_000)
    counts = {sensor: count_in(outbox.state(sensor)) for sensor in SENSORS}
    for sensor in SENSORS:
        stored = sum(
            len(outbox.history(one.alert_id)) for one in outbox.alerts(None, sensor=sensor)
        )
        assert stored == counts[sensor], (sensor, stored, counts)
        entries = outbox.open_entries(sensor)
        assert len(entries) == (counts[sensor] % 3 != 0), (sensor, entries, counts)
    begin_sending(outbox, folder)
    for turn in range(1_000_000):
        said = []
        for sensor in SENSORS:
            number, place = divmod(counts[sensor], 3)
            event = ("opened", "updated", "closed")[place]
            one = notice(f"{sensor}{number:05}", place + 1, event, sensor)
            counts[sensor] += 1
            more = {one.alert_id: evidence(30, turn)} if event == "closed" else {}
            outbox.submit([one], evidence=more, states={sensor: state(counts[sensor])})
            said.append(one.id)
        if turn % 5 == 0:
            assert outbox.flush(30)
            os.write(1, f"{turn} {json.dumps(counts)}\n".encode())


def drain(folder: Path) -> None:
    """Sends what is left."""
    outbox = Outbox(folder / FILE, max_bytes=16_000_000)
    counts = {sensor: count_in(outbox.state(sensor)) for sensor in SENSORS}
    begin_sending(outbox, folder)
    while outbox.count("file"):
        time.sleep(0.01)
    outbox.close()
    sys.stdout.write(json.dumps(counts))


# With a full disk


class Room:
    """What the disk has: a small one that a file fills, or a limit on the size of files."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._filler, self._kind = folder / "filler", kind

    def take(self) -> None:
        if self._kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, resource.RLIM_INFINITY))
            return
        with self._filler.open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def give(self) -> None:
        if self._kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            return
        self._filler.unlink()


def full(folder: Path, kind: str) -> None:
    """An outbox before, while and after its disk is full, and one that starts meanwhile."""
    room = Room(folder, kind)
    result: dict[str, Any] = {}
    got: list[str] = []
    sent: list[str] = []
    slowest = 0.0

    def take(_: int, one: Notice) -> None:
        got.append(one.id if one.sensor else f"{one.alert.reason} {one.event}")

    def submit(name: str) -> None:
        nonlocal slowest
        for place, event in enumerate(("opened", "updated", "closed"), 1):
            one = notice(name, place, event, "pump")
            more = {name: evidence(200, len(sent))} if event == "closed" else {}
            states = {"pump": state(len(sent) + 1)}
            started = time.perf_counter()
            outbox.submit([one], evidence=more, states=states)
            slowest = max(slowest, time.perf_counter() - started)
            sent.append(one.id)
            time.sleep(0.001)

    def until(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (what, outbox.health(), got[-3:])
            time.sleep(0.01)

    def begin() -> Courier:
        outbox.register(["list"])
        courier = Courier(outbox, "list", take)
        courier.start()
        return courier

    outbox = Outbox(folder / FILE, max_bytes=16_000_000)
    courier = begin()
    for number in range(5):
        submit(f"before{number}")
    assert outbox.flush(20)
    room.take()
    for number in range(60):
        submit(f"full{number:03}")
    until(lambda: outbox.health().problem != "", "the problem")
    for number in range(20):
        submit(f"later{number:03}")
    until(lambda: len([one for one in got if "/" in one]) == len(sent), "all from memory")
    health = outbox.health()
    result["problem"], result["unsaved"] = health.problem, health.unsaved
    room.give()
    until(lambda: outbox.health().problem == "", "the end of the problem")
    submit("after")
    until(lambda: got[-1].startswith("after0") or "after/3" in got, "what came after")
    assert outbox.flush(20)
    result["open"] = [one.alert.reason for one in outbox.alerts(open_only=True)]
    courier.stop = True
    courier.join()
    outbox.close()

    room.take()
    outbox = Outbox(folder / FILE, max_bytes=16_000_000)  # a computer that starts with a full disk
    result["late"] = outbox.health().problem
    courier = begin()
    for number in range(10):
        submit(f"late{number}")
    until(lambda: "late9/3" in got, "what came to the late one")
    room.give()
    until(lambda: outbox.health().problem == "", "the end of the late problem")
    submit("last")
    until(lambda: "last/3" in got, "the last")
    assert outbox.flush(20)
    result["stored"] = sorted(
        one.id
        for last in outbox.alerts(None, sensor="pump")
        for one in outbox.history(last.alert_id)
    )
    result["still_open"] = [one.alert.reason for one in outbox.alerts(open_only=True)]
    result["state"] = count_in(outbox.state("pump"))
    courier.stop = True
    courier.join()
    outbox.close()
    outbox = Outbox(folder / FILE)
    outbox.register(["list"])
    result["left"] = [one.id for _, one in outbox.pending("list")]
    outbox.close()
    result.update(sent=sent, got=got, repeats=max(Counter(got).values()), slowest=slowest)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    {"work": work, "drain": drain, "full": full}[what](Path(where), *more)  # type: ignore[operator]
