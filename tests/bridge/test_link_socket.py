from __future__ import annotations

import socket

import pytest
from link_peers import LOCALHOST, PATIENCE_S, TcpPeer, free_port, linked, read_to_end

from edgelstm.errors import SourceError
from edgelstm_bridge.links import LinkLost, make_opener
from edgelstm_bridge.urls import parse_url


def refused(text: str) -> str:
    with pytest.raises(SourceError) as caught:
        make_opener(parse_url(text))()
    assert not isinstance(caught.value, LinkLost)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["socket", "rfc2217", "mqtt"])
def test_a_server_that_is_not_there_is_named(scheme: str) -> None:
    topic = "/pump" if scheme == "mqtt" else ""
    port = free_port()
    assert refused(f"{scheme}://{LOCALHOST}:{port}{topic}") == (
        f"Cannot connect to {LOCALHOST}:{port}: it refuses connections: does the server run, and "
        "is the port right?"
    )
    assert "no such host is known" in refused(f"{scheme}://no-such-host.invalid:1{topic}")


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.links.socket_link.CONNECT_TIMEOUT_S", 0.05)
    # A full backlog drops what knocks.
    with socket.create_server((LOCALHOST, 0), backlog=0) as server:
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for knocking in waiting:
                knocking.setblocking(False)
                knocking.connect_ex(address)
            message = refused(f"socket://{LOCALHOST}:{address[1]}")
        finally:
            for knocking in waiting:
                knocking.close()
    assert message.endswith("no answer within 0.05 s: is the host on, and in this network?")


def test_what_a_server_sent_before_it_left_arrives_and_then_it_is_lost() -> None:
    with TcpPeer() as peer, peer.open() as link:
        peer.send(b"last words" * 1000)
        peer.hang_up()
        data, end = read_to_end(link)
    assert data == b"last words" * 1000
    assert isinstance(end, LinkLost)
    assert str(end) == f"Lost {peer.url}: did the server stop, or the network go down?"


def test_a_server_that_is_reset_is_lost() -> None:
    with TcpPeer() as peer, peer.open() as link:
        linger = bytes((1, 0, 0, 0, 0, 0, 0, 0))  # close with a reset
        peer.connection().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.hang_up()
        with pytest.raises(LinkLost, match=f"Lost {peer.url} \\(Connection reset by peer\\)"):
            link.read(PATIENCE_S)


def test_a_description_has_no_options() -> None:
    with linked(TcpPeer()) as link:
        assert link.description.startswith(f"socket://{LOCALHOST}:")
