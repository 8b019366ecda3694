from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from edgelstm.dashboard import hub as hub_module
from edgelstm.dashboard.columns import unpack
from edgelstm.dashboard.fake import FakeFeed
from edgelstm.dashboard.hub import Hub
from edgelstm.dashboard.view import to_json
from edgelstm.verdict_ring import VerdictRing

START = 1.8e9


class Clock:
    """Only goes on when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Page:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.columns: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.raw: list[bytes] = []
        self.status: dict[str, Any] = {}
        self.left = self.dropped = False
        self.gone = False

    def send(self, message: bytes | str) -> None:
        if isinstance(message, str):
            told = json.loads(message)
            self.status[told["type"]] = told[told["type"]]
        else:
            header, columns = unpack(message)
            self.raw.append(message)
            self.columns.append(header)
            self.times.extend(columns.times.tolist())

    async def sent(self) -> None:
        await asyncio.sleep(0)
        if self.gone:
            raise ConnectionError("gone")

    def leave(self) -> None:
        self.left = True

    def drop(self) -> None:
        self.dropped = True

    @property
    def without_holes(self) -> bool:
        ends = [header["to"] for header in self.columns]
        return ends[:-1] == [header["from"] for header in self.columns[1:]]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def settle(hub: Hub) -> None:
    """Until nobody is being sent what was before."""
    while hub._catching_up:
        await asyncio.sleep(0)


def make(rate: float = 100.0, history: float = 10.0, **more: Any) -> tuple[Clock, FakeFeed, Hub]:
    clock = Clock()
    feed = FakeFeed(channels=2, rate=rate, history=history, clock=clock, **more)
    return clock, feed, Hub(feed, clock)


def go_on(clock: Clock, feed: FakeFeed, hub: Hub, seconds: float = 0.1) -> None:
    clock.now += seconds
    feed.advance()
    hub.tick()


def test_what_was_before_comes_first_and_then_what_is_new() -> None:
    async def test() -> None:
        clock, feed, hub = make()
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump")
        go_on(clock, feed, hub)  # while it still gets what was before
        await settle(hub)
        for _ in range(5):
            go_on(clock, feed, hub)
        assert page.without_holes
        count = feed.ring("pump").count
        assert page.columns[-1]["to"] == count == len(page.times)
        assert page.times == sorted(page.times)

    run(test)


def test_all_get_the_same_bytes() -> None:
    async def test() -> None:
        clock, feed, hub = make()
        pages = Page(), Page()
        for page in pages:
            hub.add(page)
            hub.subscribe(page, "pump")
        await settle(hub)
        go_on(clock, feed, hub)
        assert pages[0].raw[-1] is pages[1].raw[-1]

    run(test)


def test_a_page_that_comes_back_goes_on_where_it_was() -> None:
    async def test() -> None:
        clock, feed, hub = make()
        first, again = Page(), Page()
        hub.add(first)
        hub.subscribe(first, "pump")
        await settle(hub)
        hub.remove(first)
        for _ in range(5):
            go_on(clock, feed, hub)
        last = first.columns[-1]
        hub.add(again)
        hub.subscribe(again, "pump", last["epoch"], last["to"])
        await settle(hub)
        go_on(clock, feed, hub)
        assert again.columns[0]["from"] == last["to"]
        assert again.without_holes
        assert len(first.times) + len(again.times) == feed.ring("pump").count

    run(test)


def test_one_that_comes_later_does_not_run_ahead_of_the_others() -> None:
    async def test() -> None:
        clock, feed, hub = make()
        first, second = Page(), Page()
        for page in (first, second):
            hub.add(page)
        hub.subscribe(first, "pump")
        await settle(hub)
        clock.now += 0.05
        feed.advance()  # readings that no tick has told of yet
        hub.subscribe(second, "pump")
        await settle(hub)
        go_on(clock, feed, hub)
        assert second.without_holes
        assert second.times == first.times

    run(test)


def test_the_counts_of_another_epoch_mean_nothing() -> None:
    async def test() -> None:
        _, feed, hub = make()
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump", "before the restart", 10**9)
        await settle(hub)
        assert page.columns[0]["from"] == 0
        assert len(page.times) == feed.ring("pump").count

    run(test)


@pytest.mark.parametrize("since", [-5, 10**9])
def test_a_count_that_makes_no_sense_harms_nobody(since: int) -> None:
    async def test() -> None:
        clock, feed, hub = make()
        other, page = Page(), Page()
        for each in (other, page):
            hub.add(each)
            hub.subscribe(each, "pump")
        await settle(hub)
        hub.subscribe(page, "pump", other.columns[-1]["epoch"], since)
        await settle(hub)
        go_on(clock, feed, hub)
        assert other.without_holes
        assert page.raw[-1] is other.raw[-1]

    run(test)


def test_only_what_is_looked_at_is_sent() -> None:
    async def test() -> None:
        clock, feed, hub = make(sensors=("pump", "fan"))
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump")
        await settle(hub)
        hub.subscribe(page, "fan")
        await settle(hub)
        before = len(page.columns)
        for _ in range(3):
            go_on(clock, feed, hub)
        assert {header["sensor"] for header in page.columns[before:]} == {"fan"}
        hub.subscribe(page, "no such sensor")
        before = len(page.columns)
        go_on(clock, feed, hub)
        assert len(page.columns) == before

    run(test)


def test_many_readings_a_second_are_thinned_and_few_are_not() -> None:
    async def test() -> None:
        for rate, thinned in ((400.0, False), (4000.0, True)):
            clock, feed, hub = make(rate, history=0.1)
            page = Page()
            hub.add(page)
            hub.subscribe(page, "pump")
            await settle(hub)
            before = len(page.times)
            for _ in range(10):
                go_on(clock, feed, hub)
            assert page.columns[-1]["thinned"] is thinned
            assert len(page.times) - before <= 550
            assert page.without_holes

    run(test)


def test_a_long_past_is_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MOST_ROWS_BEFORE", 500)

    async def test() -> None:
        _, feed, hub = make(history=100)
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump")
        await settle(hub)
        assert len(page.times) <= 550
        assert page.without_holes
        assert page.columns[-1]["to"] == feed.ring("pump").count

    run(test)


def test_readings_that_were_overwritten_meanwhile_are_left_out() -> None:
    async def test() -> None:
        clock, feed, hub = make()
        machine = feed._machines["pump"]
        machine.ring = VerdictRing(20)
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump")
        await settle(hub)
        go_on(clock, feed, hub, seconds=1.0)
        assert page.columns[-1]["to"] == 100
        assert len(page.times) == 20

    run(test)


def test_another_ring_is_followed() -> None:
    async def test() -> None:
        clock, feed, hub = make()
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump")
        await settle(hub)
        epoch = page.columns[-1]["epoch"]
        machine = feed._machines["pump"]
        machine.ring = VerdictRing(500)
        machine.info = replace(machine.info, sha256="f" * 64)
        go_on(clock, feed, hub)
        await hub.refresh()
        await settle(hub)
        assert page.status["sensors"][0]["sha256"] == "f" * 64
        assert page.columns[-1]["epoch"] != epoch
        assert page.columns[-1]["from"] == 0
        assert page.columns[-1]["to"] == machine.ring.count

    run(test)


def test_a_sensor_that_comes_later_is_shown_to_who_waits_for_it() -> None:
    async def test() -> None:
        _, feed, hub = make(sensors=("pump", "fan"))
        machine = feed._machines.pop("fan")
        page = Page()
        hub.add(page)
        hub.subscribe(page, "fan")
        await settle(hub)
        assert not page.columns
        feed._machines["fan"] = machine
        await hub.refresh()
        await settle(hub)
        assert page.columns[-1]["sensor"] == "fan"

    run(test)


def test_a_page_is_told_how_things_are_once_and_when_they_change() -> None:
    async def test() -> None:
        _, feed, hub = make(history=60)
        page = Page()
        hub.add(page)
        await hub.refresh()
        assert page.status["health"]["gateway"] == "pump-room"
        (alert,) = page.status.pop("alerts")
        assert alert["event"] == "closed"
        del page.status["sensors"]
        await hub.refresh()
        assert "alerts" not in page.status
        assert "sensors" not in page.status
        feed.acknowledge(alert["alert_id"], "Ada", "<b>seen</b>")
        await hub.refresh()
        assert page.status["alerts"][0]["acknowledged"]["note"] == "<b>seen</b>"

    run(test)


def test_one_that_comes_later_is_told_at_once_too() -> None:
    async def test() -> None:
        _, _, hub = make()
        first, second = Page(), Page()
        hub.add(first)
        await hub.refresh()
        hub.add(second)
        assert second.status.keys() == {"sensors", "health", "alerts"}

    run(test)


def test_a_part_of_the_service_that_fails_does_not_stop_the_page(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        clock, feed, hub = make()
        monkeypatch.setattr(feed, "alerts", lambda _limit: 1 / 0)
        page = Page()
        hub.add(page)
        hub.subscribe(page, "pump")
        await hub.refresh()
        await settle(hub)
        before = len(page.columns)
        go_on(clock, feed, hub)
        assert len(page.columns) == before + 1
        assert page.status.keys() == {"sensors", "health"}
        assert "alerts" in caplog.text

    run(test)


def test_one_that_goes_while_it_is_sent_the_past_is_forgotten() -> None:
    async def test() -> None:
        clock, feed, hub = make(history=100)
        page = Page()
        hub.add(page)
        page.gone = True
        hub.subscribe(page, "pump")
        await settle(hub)
        hub.remove(page)
        before = len(page.columns)
        go_on(clock, feed, hub)
        assert len(page.columns) == before
        assert hub.clients == 0

    run(test)


def test_at_the_end_all_are_told_and_who_does_not_go_is_dropped() -> None:
    async def test() -> None:
        feed = FakeFeed(channels=1, rate=10, history=1)
        hub = Hub(feed)
        page = Page()
        hub.add(page)
        await hub.close(0.05)
        assert page.left
        assert page.dropped

    run(test)


def test_numbers_that_json_does_not_have_are_null() -> None:
    assert to_json({"a": [float("nan"), (float("inf"), 1.5)]}) == '{"a":[null,[null,1.5]]}'
