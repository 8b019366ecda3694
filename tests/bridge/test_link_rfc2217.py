from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_peers import Rfc2217Peer, TcpPeer, read_all, read_to_end

from edgelstm.errors import SourceError
from edgelstm_bridge.links import LinkLost, make_opener
from edgelstm_bridge.links.telnet import ComPortClient
from edgelstm_bridge.urls import parse_url

IAC, DO, WILL, WONT, DONT, SB, SE = b"\xff", b"\xfd", b"\xfb", b"\xfc", b"\xfe", b"\xfa", b"\xf0"
BINARY, ECHO, COM_PORT = b"\0", b"\x01", b"\x2c"
AGREED = IAC + DO + BINARY + IAC + WILL + BINARY + IAC + DO + COM_PORT
RATE_SET = IAC + SB + COM_PORT + b"\x65\x00\x01\xc2\x00" + IAC + SE  # 115,200


def test_the_server_sets_the_line() -> None:
    with Rfc2217Peer() as peer, peer.open():
        assert peer.port.baudrate == 115_200
        assert (peer.port.bytesize, peer.port.parity, peer.port.stopbits) == (8, "N", 1)


def test_a_link_can_be_opened_without_a_baud_rate() -> None:
    with Rfc2217Peer() as peer:
        opener = make_opener(parse_url(peer.url.partition("?")[0]))
        with opener() as link:
            peer.send(b"\xff here")
            assert read_all(link, 6) == b"\xff here"
            assert peer.port.baudrate == 9600


def test_a_server_that_leaves_is_lost() -> None:
    with Rfc2217Peer() as peer, peer.open() as link:
        threading.Timer(0.1, peer.hang_up).start()
        _, end = read_to_end(link)
    assert isinstance(end, LinkLost)


def opened_against(*, answer: bytes, hang_up: bool = False) -> str:
    """The error that comes of a TCP server that answers so."""
    with TcpPeer() as peer:

        def serve() -> None:
            peer.send(answer)
            if hang_up:
                peer.hang_up()

        server = threading.Thread(target=serve)
        server.start()
        opener = make_opener(parse_url(peer.url.replace("socket", "rfc2217") + "?baud=115200"))
        with pytest.raises(SourceError) as caught:
            opener()
        server.join()
    assert not isinstance(caught.value, LinkLost)
    return str(caught.value).replace(peer.url.partition("://")[2], "ADDRESS")


def test_a_server_that_speaks_no_telnet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.links.rfc2217_link.CONNECT_TIMEOUT_S", 0.2)
    answers = {
        opened_against(answer=b"1.5,2.5\n"),
        opened_against(answer=IAC + DONT + COM_PORT),
        opened_against(answer=b"", hang_up=True),
    }
    (message,) = answers
    assert message == (
        "The server at rfc2217://ADDRESS does not speak RFC 2217: for a plain TCP port take "
        "socket://ADDRESS"
    )


def test_a_server_with_another_baud_rate_is_refused() -> None:
    set_9600 = RATE_SET.replace(b"\x00\x01\xc2\x00", b"\x00\x00\x25\x80")
    message = opened_against(answer=AGREED + set_9600)
    assert "sets 9600 baud instead of 115200" in message


def test_data_that_comes_during_the_agreement_is_kept() -> None:
    with TcpPeer() as peer:
        client = ComPortClient(115_200)
        settings = len(client.requests() + client.receive(AGREED)[1])

        def serve() -> None:
            peer.send(b"ear" + AGREED)
            peer.received(settings)
            peer.send(b"ly" + RATE_SET)

        server = threading.Thread(target=serve)
        server.start()
        opener = make_opener(parse_url(peer.url.replace("socket", "rfc2217") + "?baud=115200"))
        with opener() as link:
            server.join()
            assert read_all(link, 5) == b"early"
            assert link.read(0.05) is None


def test_options_nobody_asked_for_are_declined_once() -> None:
    client = ComPortClient()
    assert client.receive(IAC + WILL + ECHO + IAC + DO + ECHO) == (
        b"",
        IAC + DONT + ECHO + IAC + WONT + ECHO,
    )
    # A refusal is not answered, and what we asked for ourselves is not either.
    assert client.receive(IAC + WONT + ECHO + IAC + DONT + ECHO + AGREED + AGREED) == (b"", b"")
    assert client.is_ready


def test_the_line_is_set_once_the_server_has_a_port() -> None:
    client = ComPortClient(115_200)
    _, answers = client.receive(AGREED)
    assert answers.startswith(IAC + SB + COM_PORT + b"\x01\x00\x01\xc2\x00" + IAC + SE)
    assert client.receive(AGREED) == (b"", b"")
    assert not client.is_ready
    assert client.receive(RATE_SET) == (b"", b"")
    assert client.is_ready
    assert client.server_rate == 115_200


def test_a_subnegotiation_that_never_ends_is_left_behind() -> None:
    client = ComPortClient()
    client.receive(IAC + SB)
    for _ in range(2000):
        client.receive(b"x")
    assert client.receive(b"data")[0] == b"data"


@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=8).map(lambda data: (data, ComPortClient.escape(data))),
            st.sampled_from(
                [
                    (b"", IAC + WILL + ECHO),
                    (b"", IAC + b"\xf1"),  # no operation
                    (b"", IAC + SB + COM_PORT + b"\x6b\x10" + IAC + SE),  # modem lines
                    (b"", IAC + SB + COM_PORT + b"\x65\x00" + IAC + IAC + SE + b"\x01" + IAC + SE),
                ]
            ),
        ),
        max_size=12,
    ),
    data=st.data(),
)
def test_data_comes_out_whole_however_it_is_cut(
    parts: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(sent for _, sent in parts)
    client = ComPortClient(9600)
    received = b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += client.receive(stream[:size])[0]
        stream = stream[size:]
    assert received == b"".join(wanted for wanted, _ in parts)
