"""The laws of every link, whatever it goes over."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
from link_peers import (
    PATIENCE_S,
    Broker,
    CapturedPeer,
    MqttPeer,
    Peer,
    PipePeer,
    PtyPeer,
    ReplayPeer,
    Rfc2217Peer,
    TcpPeer,
    linked,
    read_all,
)

from edgelstm_bridge.links import LinkLost

# Every byte, and among them those that mean something to a terminal, to Telnet and to MQTT.
MESSAGES = [bytes(range(256)) * (1 + n % 3) + n.to_bytes(2) for n in range(40)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), "allow_anonymous true") as broker:
        yield broker


class LinkContract(ABC):
    """What each of the classes below has to show."""

    can_write = True
    is_live = True
    can_wait = False

    @pytest.fixture
    @abstractmethod
    def other(self) -> Peer: ...

    def test_nothing_there_is_none_in_time(self, other: Peer) -> None:
        with linked(other) as link:
            began = time.monotonic()
            assert link.read(0) is None
            assert link.read(0.05) is None
            assert time.monotonic() - began >= 0.04

    def test_bytes_arrive_once_in_order_and_whole(self, other: Peer) -> None:
        wanted = b"".join(MESSAGES)
        with linked(other) as link:
            sender = threading.Thread(target=lambda: [other.send(data) for data in MESSAGES])
            sender.start()
            received = read_all(link, len(wanted))
            sender.join()
            assert received == wanted
            assert link.read(0.05) is None

    def test_a_chunk_arrives_between_before_and_after(self, other: Peer) -> None:
        with linked(other) as link:
            before, wall_before = time.monotonic(), time.time()
            other.send(MESSAGES[0])
            chunk = link.read(PATIENCE_S)
            after, wall_after = time.monotonic(), time.time()
        assert chunk is not None
        if self.is_live:
            assert before <= chunk.arrived_at <= after
            wall = chunk.arrived_at + chunk.wall_offset
            assert wall_before - 0.01 <= wall <= wall_after + 0.01
        else:
            assert (chunk.arrived_at, chunk.wall_offset) == (1000.5, 5.0)

    def test_what_is_written_comes_out_whole(self, other: Peer) -> None:
        data = bytes(range(256))
        with linked(other) as link:
            assert link.can_write is self.can_write
            assert link.is_live is self.is_live
            assert link.can_wait is self.can_wait
            link.write(data)
            if self.can_write:
                assert other.received(len(data)) == data

    def test_a_closed_link_is_lost_and_may_be_closed_again(self, other: Peer) -> None:
        with linked(other) as link:
            link.close()
            link.close()
            for _ in range(2):
                with pytest.raises(LinkLost, match="is closed"):
                    link.read(0.1)
            if self.can_write:
                with pytest.raises(LinkLost, match="is closed"):
                    link.write(b"x")
            else:
                link.write(b"x")

    def test_closing_ends_a_read_of_another_thread(self, other: Peer) -> None:
        caught: list[Exception] = []

        with linked(other) as link:

            def read() -> None:
                try:
                    while True:
                        link.read(2 * PATIENCE_S)
                except LinkLost as error:
                    caught.append(error)

            reader = threading.Thread(target=read)
            reader.start()
            time.sleep(0.05)  # so that it waits, most of the time
            link.close()
            reader.join(PATIENCE_S)
            assert not reader.is_alive()
        assert len(caught) == 1

    def test_its_description_is_for_people(self, other: Peer) -> None:
        with linked(other) as link:
            assert link.description
            assert "?" not in link.description


class TestSerialLink(LinkContract):
    can_wait = True

    @pytest.fixture
    def other(self) -> Peer:
        return PtyPeer()


class TestSocketLink(LinkContract):
    @pytest.fixture
    def other(self) -> Peer:
        return TcpPeer()


class TestRfc2217Link(LinkContract):
    @pytest.fixture
    def other(self) -> Peer:
        return Rfc2217Peer()


class TestStdinLink(LinkContract):
    can_wait = True
    can_write = False

    @pytest.fixture
    def other(self) -> Peer:
        return PipePeer()


class TestReplayLink(LinkContract):
    can_wait = True
    can_write = False
    is_live = False

    @pytest.fixture
    def other(self, tmp_path: Path) -> Peer:
        return ReplayPeer(tmp_path / "field.capture", *MESSAGES)


class TestCapturedLink(LinkContract):
    can_wait = True

    @pytest.fixture
    def other(self, tmp_path: Path) -> Peer:
        return CapturedPeer(tmp_path / "field.capture")


class TestMqttLink(LinkContract):
    can_write = False

    @pytest.fixture
    def other(self, broker: Broker) -> Peer:
        return MqttPeer(broker)
