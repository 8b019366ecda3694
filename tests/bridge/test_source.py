"""`LinkSource` over a link that does what the test says; real links are tested on their own."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import pytest

from edgelstm.errors import ConfigurationError, ProtocolError, SourceError
from edgelstm.reading import Reading
from edgelstm_bridge.auto_receiver import AutoReceiver
from edgelstm_bridge.codec import encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.event_queue import EventQueue
from edgelstm_bridge.events import Connected, Disconnected, Ended, Event, Gap, Silence
from edgelstm_bridge.formats import Format
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.link_source import LinkSource
from edgelstm_bridge.links.backoff import Backoff
from edgelstm_bridge.links.link import Chunk, Link, LinkEnded, LinkLost, arrived
from edgelstm_bridge.messages import ChannelInfo, End, Hello, Ping, Sample, Start, Stop
from edgelstm_bridge.receiver import Receiver
from edgelstm_bridge.source import FakeSource
from edgelstm_bridge.text_receiver import TextReceiver

HELLO = Hello((ChannelInfo("a"), ChannelInfo("b")), sample_period_us=10_000, device_id="pump")
DEADLINE_S = 30
COMPLETE = (
    "csv:delimiter=comma,header=no,decimal=point,columns=a+b,channels=a+b,time=no,checksum=no"
)


def samples(first: int, last: int) -> bytes:
    return b"".join(
        encode_frame(Sample(n, n * 10, (float(n), 0.5)).encode(HELLO)) for n in range(first, last)
    )


def hello(sample_count: int = 0, boot_id: int = 1) -> bytes:
    return encode_frame(
        Hello(
            HELLO.channels,
            sample_period_us=10_000,
            boot_id=boot_id,
            sample_count=sample_count,
            device_id="pump",
        ).encode()
    )


class ScriptedLink(Link):
    """Gives what a script yields: bytes, None for nothing, or an exception to raise."""

    description = "scripted"

    def __init__(
        self,
        script: Iterable[bytes | Exception | None],
        *,
        can_wait: bool = False,
        can_write: bool = True,
    ) -> None:
        self.can_wait = can_wait
        self.can_write = can_write
        self.written = bytearray()
        self.closed = threading.Event()
        self._script = iter(script)

    def read(self, timeout: float) -> Chunk | None:
        if self.closed.is_set():
            raise LinkLost("scripted is closed.")
        item = next(self._script, None)
        if isinstance(item, Exception):
            raise item
        if item is None:
            self.closed.wait(min(timeout, 0.005))
            return None
        return arrived(item)

    def write(self, data: bytes) -> None:
        if self.can_write:
            self.written += data

    def close(self) -> None:
        self.closed.set()

    def commands(self) -> list[object]:
        return list(FrameDecoder().feed(bytes(self.written)))


class Openings:
    """An opener of one link after the other; an exception is raised in its turn."""

    def __init__(self, *links: ScriptedLink | Exception) -> None:
        self._links = list(links)
        self.times = 0

    def __call__(self) -> Link:
        self.times += 1
        link = self._links.pop(0)
        if isinstance(link, Exception):
            raise link
        return link


@contextmanager
def open_links(
    *links: ScriptedLink | Exception,
    receiver: Receiver | None = None,
    reconnect: bool = True,
    queue_size: int = 1000,
    timeout: float = DEADLINE_S,
) -> Iterator[LinkSource]:
    before = threading.active_count()
    with LinkSource(
        Openings(*links),
        receiver or FrameReceiver(),
        reconnect=reconnect,
        backoff=Backoff(0.001, 0.002, chance=random.Random(1)),  # noqa: S311 - a test
        queue_size=queue_size,
        connect_timeout=timeout,
    ) as source:
        yield source
    assert threading.active_count() == before


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def numbers(events: Iterable[Event]) -> list[int | None]:
    return [event.sequence_number for event in events if isinstance(event, Reading)]


def end(sample_count: int) -> bytes:
    return encode_frame(End(sample_count).encode())


def test_readings_until_the_device_ends() -> None:
    link = ScriptedLink([hello() + samples(0, 3), None, samples(3, 10) + end(10)])
    with open_links(link) as source:
        assert [channel.name for channel in source.channels] == ["a", "b"]
        assert source.sample_period == 0.01
        assert source.device == "pump"
        events = list(source.events())
    assert events[0] == Connected("scripted (pump)")
    assert events[-1] == Ended()
    assert numbers(events) == list(range(10))
    assert source.counters.readings == 10
    assert source.counters.lost == 0
    assert source.counters.bytes > 200


def test_iterating_gives_the_readings_alone_and_can_be_taken_up_again() -> None:
    with open_links(ScriptedLink([hello() + samples(0, 100), end(100)])) as source:
        first = list(islice(source, 10))
        rest = list(source)
    assert numbers(first) + numbers(rest) == list(range(100))


def test_start_is_sent_and_then_pings() -> None:
    link = ScriptedLink([None, None, hello(), hello() + samples(0, 1), *[None] * 200])
    with open_links(link) as source:
        next(iter(source))
        wait_for(lambda: any(isinstance(command, Ping) for command in link.commands()))
    assert link.commands()[:2] == [Start(), Start()]
    assert link.commands()[-1] == Stop()
    assert link.closed.is_set()


def test_stop_lets_the_rest_come() -> None:
    ends = threading.Event()

    def script() -> Iterator[bytes | None]:
        yield hello() + samples(0, 5)
        while not ends.is_set():
            yield None
        yield samples(5, 8) + end(9)

    link = ScriptedLink(script())
    with open_links(link) as source:
        taken = list(islice(source, 5))
        source.stop()
        wait_for(lambda: Stop() in link.commands())
        ends.set()
        taken += list(source)
    assert numbers(taken) == list(range(8))
    assert source.counters.lost == 1, "the end says that one more was due"


def test_a_device_that_does_not_answer_a_stop_is_left() -> None:
    with open_links(ScriptedLink([hello() + samples(0, 5)])) as source:
        source.stop()
        assert numbers(source.events()) == list(range(5))


def test_the_link_is_opened_again_and_nothing_comes_twice() -> None:
    first = ScriptedLink([hello() + samples(0, 5) + samples(5, 6)[:-3], LinkLost("Lost it.")])
    second = ScriptedLink([hello(8) + samples(8, 12), end(12)])
    with open_links(first, SourceError("not yet"), SourceError("not yet"), second) as source:
        events = list(source.events())
    assert numbers(events) == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    kinds = [type(event) for event in events]
    assert kinds[6:9] == [Disconnected, Connected, Gap]
    assert events[6] == Disconnected("Lost it.")
    assert events[7] == Connected("scripted", again=True)
    gap = events[8]
    assert isinstance(gap, Gap)
    assert (gap.missing, gap.exact) == (3, True)
    assert (source.counters.reconnects, source.counters.lost) == (1, 3)
    assert source.counters.damaged == 0
    assert first.closed.is_set()


def test_without_reconnecting_a_loss_is_an_error_after_what_came_before_it() -> None:
    link = ScriptedLink([hello() + samples(0, 5), LinkLost("Lost it.")])
    with open_links(link, reconnect=False) as source:
        assert numbers(islice(source, 5)) == list(range(5))
        with pytest.raises(SourceError, match="Lost it"):
            next(iter(source))
        with pytest.raises(SourceError, match="Lost it"):
            list(source)


def test_closing_ends_the_search_for_a_lost_link() -> None:
    def fail_for_ever() -> Iterator[Exception]:
        while True:
            yield SourceError("still away")

    links = [ScriptedLink([hello() + samples(0, 5), LinkLost("Lost it.")])]
    failures = fail_for_ever()

    def opener() -> Link:
        if links:
            return links.pop()
        raise next(failures)

    with LinkSource(opener, FrameReceiver(), backoff=Backoff(0.001, 0.002)) as source:
        assert numbers(islice(source.events(), 7)) == list(range(5))


def test_stopping_ends_the_search_for_a_lost_link_at_once() -> None:
    lost = ScriptedLink([hello() + samples(0, 5), LinkLost("Lost it.")])
    links: list[Link] = [lost]

    def opener() -> Link:
        if links:
            return links.pop()
        raise SourceError("still away")

    with LinkSource(opener, FrameReceiver(), backoff=Backoff(3600.0, 3600.0)) as source:
        events = source.events()
        while not isinstance(next(events), Disconnected):
            pass
        source.stop()
        assert list(events) == []


def test_the_first_opening_is_not_repeated() -> None:
    openings = Openings(SourceError("no such port"))
    with pytest.raises(SourceError, match="no such port"):
        LinkSource(openings, FrameReceiver())
    assert openings.times == 1


def test_silence_at_the_start_says_what_to_check() -> None:
    with (
        pytest.raises(SourceError, match=r"from scripted within 0\.05 s: no hello.*right port"),
        open_links(ScriptedLink([]), timeout=0.05),
    ):
        pass


def test_a_link_that_is_lost_before_anything_came_is_opened_again() -> None:
    """Some boards vanish and come back when they are opened."""
    second = ScriptedLink([hello() + samples(0, 1), end(1)])
    with open_links(ScriptedLink([LinkLost("Lost it.")]), second) as source:
        assert numbers(source.events()) == [0]


def test_an_error_of_the_protocol_names_the_link() -> None:
    with (
        pytest.raises(ProtocolError, match="scripted: the device speaks protocol version 9"),
        open_links(ScriptedLink([encode_frame(b"\x01\x09")])),
    ):
        pass


def test_a_bug_in_the_thread_is_raised_where_readings_are_taken() -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_links(ScriptedLink([hello() + samples(0, 1), ZeroDivisionError()])) as source,
    ):
        list(source)


def test_the_oldest_are_dropped_when_nobody_takes_them() -> None:
    link = ScriptedLink([hello(), *(samples(n, n + 50) for n in range(0, 1000, 50)), end(1000)])
    with open_links(link, queue_size=100) as source:
        source._thread.join(DEADLINE_S)
        events = list(source.events())
    kept = numbers(events)
    assert kept == list(range(1000 - len(kept), 1000))
    # What else happened is not dropped.
    assert events[0] == Connected("scripted (pump)")
    assert len(events) == 101
    assert events[-1] == Ended()
    assert source.counters.overflow == 1000 - len(kept)
    assert source.counters.lost == 0


def test_a_flood_of_news_is_bounded() -> None:
    queue = EventQueue(10, drop=True)
    queue.put([Ended()] * 5000)
    queue.put([Reading(0.0, (1.0,))])
    assert len(queue.take()) <= 1010
    assert queue.overflow == 0


def test_what_can_wait_has_to() -> None:
    link = ScriptedLink(
        [hello(), *(samples(n, n + 50) for n in range(0, 1000, 50)), end(1000)], can_wait=True
    )
    with open_links(link, queue_size=100) as source:
        wait_for(lambda: len(source._queue._events) >= 100)
        time.sleep(0.05)
        assert len(source._queue._events) < 200
        assert numbers(source.events()) == list(range(1000))
        assert source.counters.overflow == 0


def test_closing_while_the_link_has_to_wait() -> None:
    link = ScriptedLink((samples(n, n + 50) for n in range(0, 10**6, 50)), can_wait=True)
    link._script = iter([hello(), *islice(link._script, 100)])
    with open_links(link, queue_size=100):
        time.sleep(0.05)
    assert link.closed.is_set()


def test_closing_twice_and_from_another_thread() -> None:
    with open_links(ScriptedLink([hello() + samples(0, 5)])) as source:
        other = threading.Timer(0.1, source.close)
        other.start()
        assert numbers(source.events()) == list(range(5))
        other.join()
        source.close()
        assert list(source) == []


def test_the_end_of_a_stream_is_no_error_and_completes_the_last_line() -> None:
    link = ScriptedLink([b"a,b\n1,2\n3,4\n5,6\n7,8", LinkEnded("The end.")], can_write=False)
    receiver = TextReceiver(Format.parse("csv"), whole_start=True)
    with open_links(link, receiver=receiver) as source:
        events = list(source.events())
    assert [e.values for e in events if isinstance(e, Reading)] == [
        (1.0, 2.0),
        (3.0, 4.0),
        (5.0, 6.0),
        (7.0, 8.0),
    ]
    assert events[-1] == Ended()


def test_an_end_before_anything_is_understood_is_an_error() -> None:
    with (
        pytest.raises(SourceError, match="ended before anything was understood"),
        open_links(ScriptedLink([LinkEnded("The end.")]), receiver=TextReceiver()),
    ):
        pass


def test_a_stream_that_ends_in_no_format_is_an_error() -> None:
    link = ScriptedLink([b"what is this?\n" * 10, LinkEnded("The end.")])
    with (
        pytest.raises(ProtocolError, match="scripted: The device sends lines such as"),
        open_links(link, receiver=TextReceiver()),
    ):
        pass


def test_a_receiver_hears_what_was_sent_when_a_capture_was_made() -> None:
    class Recorded(ScriptedLink):
        is_live = False

        def read(self, timeout: float) -> Chunk | None:
            if self.on_sent is not None:
                self.on_sent(b"a ping", 7.0)
            return super().read(timeout)

    class Listening(FrameReceiver):
        def sent(self, data: bytes, now: float) -> None:
            heard.append((data, now))

    heard: list[tuple[bytes, float]] = []
    link = Recorded([hello() + samples(0, 1), end(1)], can_write=False)
    with open_links(link, receiver=Listening()) as source:
        list(source)
    assert heard
    assert set(heard) == {(b"a ping", 7.0)}


def test_a_long_silence_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.silence._LEAST_S", 0.15)
    quick = encode_frame(
        Hello(HELLO.channels, sample_period_us=1000, boot_id=1, device_id="pump").encode()
    )
    link = ScriptedLink(
        [quick + samples(0, 1), *[None] * 150, samples(1, 2), *[None] * 150, end(2)]
    )
    with open_links(link) as source:
        events = list(source.events())
    kinds = [type(event) for event in events]
    assert kinds == [Connected, Reading, Silence, Reading, Silence, Ended]


@pytest.mark.slow
def test_a_device_that_is_slow_by_nature_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.silence._LEAST_S", 0.05)
    slow = [item for n in range(12) for item in (f"{n},2\n".encode(), *[None] * 40)]
    with open_links(
        ScriptedLink([*slow, LinkEnded("over")]),
        receiver=TextReceiver(Format.parse(COMPLETE), whole_start=True),
    ) as source:
        kinds = [type(event) for event in source.events()]
    assert kinds.count(Reading) == 12
    # Until it is known how slow it is.
    assert 1 <= kinds.count(Silence) <= 3
    assert Silence not in kinds[-8:]


def test_bytes_that_are_of_no_use_do_not_pass_for_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.silence._LEAST_S", 0.15)
    changed = [item for _ in range(80) for item in (b"1,2,3\n", None)]
    with open_links(
        ScriptedLink([b"1,2\n", *changed, b"3,4\n", LinkEnded("over")]),
        receiver=TextReceiver(Format.parse(COMPLETE), whole_start=True),
    ) as source:
        events = list(source.events())
    (silence,) = [event for event in events if isinstance(event, Silence)]
    assert 0 < silence.damaged <= 80
    assert [type(event) for event in events] == [Connected, Reading, Silence, Reading, Ended]


def test_what_is_not_understood_yet_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.silence._LEAST_S", 0.05)
    lines = [item for n in range(8) for item in (b"%d,2\n" % n, *[None] * 40)]
    with open_links(
        ScriptedLink([*lines, LinkEnded("over")]), receiver=AutoReceiver(whole_start=True)
    ) as source:
        kinds = [type(event) for event in source.events()]
    assert kinds[0] is Connected
    assert kinds.count(Reading) == 8


def test_several_threads_take_every_reading_once() -> None:
    lines = [b"".join(b"%d,2\n" % n for n in range(k, k + 100)) for k in range(0, 40_000, 100)]
    taken: list[list[float]] = [[], [], []]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # they shall meet
    try:
        with open_links(
            ScriptedLink([*lines, LinkEnded("over")], can_wait=True),
            receiver=TextReceiver(Format.parse(COMPLETE), whole_start=True),
            queue_size=500,
        ) as source:

            def take(mine: list[float]) -> None:
                mine.extend(reading.values[0] for reading in source)

            threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE_S)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(value for mine in taken for value in mine) == list(range(40_000))


@pytest.mark.parametrize("size", [0, -1])
def test_a_queue_without_room_is_refused(size: int) -> None:
    with pytest.raises(ConfigurationError, match=f"A queue of {size} events has no room"):
        LinkSource(Openings(), FrameReceiver(), queue_size=size)


def test_the_fake_source_gives_what_it_was_given() -> None:
    readings = [Reading(float(i), (1.0,), i) for i in range(3)]
    with FakeSource(["a"], [*readings, Ended()], 1.0) as source:
        assert list(source) == readings
        assert source.counters.readings == 3
        assert source.channels == (ChannelInfo("a"),)
