from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_peers import LOCALHOST, Broker, TcpPeer, read_all, read_to_end

from edgelstm.errors import ConfigurationError, MissingDependencyError, SourceError
from edgelstm_bridge.links import Chunk, Link, LinkLost, make_opener
from edgelstm_bridge.links.mqtt_link import chunk_of_message
from edgelstm_bridge.source import Source
from edgelstm_bridge.sources import open_source
from edgelstm_bridge.urls import parse_url


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), "allow_anonymous true") as broker:
        yield broker


def open_link(text: str) -> Link:
    return make_opener(parse_url(text))()


def topic(broker: Broker, name: str, *, login: str = "", scheme: str = "mqtt") -> str:
    return f"{scheme}://{login}{LOCALHOST}:{broker.port}/{name}"


@pytest.mark.parametrize(
    ("payload", "chunk"),
    [
        (b"1,2", b"1,2\n"),
        (b"1,2\n", b"1,2\n"),
        (b"1,2\r\n", b"1,2\n"),
        (b"1,2\n3,4", b"1,2\n3,4\n"),
        (b'{"a":1}', b'{"a":1}\n'),
        (b'{\n  "a": 1,\r\n  "b  c": 2\n}\n', b'{   "a": 1,   "b  c": 2 }\n'),
        (b"[1,\n2]", b"[1, 2]\n"),
        (b'{"a":1}\n{"a":2}\n', b'{"a":1}\n{"a":2}\n'),
        (b"{\nbroken", b"{\nbroken\n"),
        (b"\x05abc\0", b"\x05abc\0"),
        (b"\x05abc\n\0\x03", b"\x05abc\n\0\x03"),
        (b"", b""),
    ],
)
def test_a_message_is_whole_lines_or_frames(payload: bytes, chunk: bytes) -> None:
    assert chunk_of_message(payload) == chunk


JSON = st.recursive(
    st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
).filter(lambda value: isinstance(value, list | dict))


@given(JSON, st.sampled_from([None, 0, 2]))
def test_json_over_several_lines_means_the_same_on_one(value: object, indent: int | None) -> None:
    chunk = chunk_of_message(json.dumps(value, indent=indent).encode())
    assert chunk.count(b"\n") == 1
    assert json.loads(chunk) == value


@given(st.binary())
def test_any_payload_becomes_a_chunk(payload: bytes) -> None:
    chunk = chunk_of_message(payload)
    assert chunk == payload or chunk.endswith(b"\n")


def test_messages_of_the_topic_arrive_and_others_do_not(broker: Broker) -> None:
    with open_link(topic(broker, "plant/+/vibration?qos=1")) as link:
        broker.publish("plant/1/vibration", b"1,2")
        broker.publish("plant/1/heat", b"no")
        broker.publish("plant/2/vibration", b"3,4")
        assert read_all(link, 8) == b"1,2\n3,4\n"
        assert link.description == topic(broker, "plant/+/vibration")


def test_every_message_is_a_chunk_with_its_own_time(broker: Broker) -> None:
    with open_link(topic(broker, "pump")) as link:
        for number in range(5):
            broker.publish("pump", b"%d" % number)
        chunks: list[Chunk] = []
        while len(chunks) < 5:
            if (chunk := link.read(1)) is not None:
                chunks.append(chunk)
        assert [chunk.data for chunk in chunks] == [b"%d\n" % number for number in range(5)]


def test_what_the_broker_had_retained_is_left_out(broker: Broker) -> None:
    broker.publish("old", b"of yesterday", retain=True)
    with open_link(topic(broker, "old")) as link:
        broker.publish("old", b"of now", retain=True)
        assert read_all(link, 7) == b"of now\n"
    broker.publish("old", b"", retain=True)


def test_a_broker_that_dies_is_lost_and_found_again(tmp_path: Path) -> None:
    broker = Broker(tmp_path, "allow_anonymous true")
    opener = make_opener(parse_url(topic(broker, "pump")))
    for _ in range(2):
        with broker, opener() as link:
            broker.publish("pump", b"1")
            assert read_all(link, 2) == b"1\n"
            broker.kill()
            _, end = read_to_end(link)
            assert isinstance(end, LinkLost)
            assert str(end).startswith(f"Lost {link.description} (")
            with pytest.raises(LinkLost):
                link.read(0)
    with pytest.raises(SourceError, match="refuses connections"):
        opener()


@pytest.mark.slow
def test_a_broker_that_answers_no_more_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelstm_bridge.links.mqtt_link._KEEP_ALIVE_S", 1)
    with Broker(tmp_path, "allow_anonymous true") as broker:
        with open_link(topic(broker, "pump")) as link:
            began = time.monotonic()
            while time.monotonic() - began < 2.5:
                assert link.read(0.2) is None, "it still answers"
            broker.freeze()
            _, end = read_to_end(link)
        assert isinstance(end, LinkLost)


def test_a_login_is_needed_where_the_broker_wants_one(tmp_path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("needs an MQTT broker: sudo apt-get install mosquitto")
    passwords = tmp_path / "passwords"
    subprocess.run([tool, "-b", "-c", passwords, "me", "hunter2"], check=True)
    rights = tmp_path / "rights"
    rights.write_text("user me\ntopic read pump/#\n")
    with Broker(
        tmp_path,
        "allow_anonymous false",
        f"password_file {passwords}",
        f"acl_file {rights}",
    ) as broker:
        with open_link(topic(broker, "pump/1", login="me:hunter2@")) as link:
            assert link.description == topic(broker, "pump/1")
            assert "hunter2" not in link.description
        for login in ("", "me:hunter3@"):
            with pytest.raises(SourceError, match="the broker refuses the login") as caught:
                open_link(topic(broker, "pump/1", login=login))
            assert "hunter3" not in str(caught.value)


# paho-mqtt leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    assert openssl is not None
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=broker",
         "-addext", f"subjectAltName=IP:{LOCALHOST}"],
        check=True, capture_output=True,
    )  # fmt: skip
    publish = "from paho.mqtt.publish import single; import sys;" \
        "single('pump', b'1,2' * 5000, hostname=sys.argv[1], port=int(sys.argv[2])," \
        " tls={'ca_certs': sys.argv[3]})"  # fmt: skip
    with Broker(
        tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}"
    ) as broker:
        url = topic(broker, "pump", scheme="mqtts")
        with pytest.raises(SourceError, match=r"no TLS with this broker .*\?ca=FILE\.$"):
            open_link(url)
        with open_link(f"{url}?ca={certificate}") as link:
            arguments: list[str | Path] = [
                sys.executable,
                "-c",
                publish,
                LOCALHOST,
                str(broker.port),
                certificate,
            ]
            for _ in range(3):
                subprocess.run(arguments, check=True)
            assert read_all(link, 3 * 15_001) == (b"1,2" * 5000 + b"\n") * 3
        with pytest.raises(ConfigurationError, match=r"none\.pem cannot be used: No such file"):
            open_link(f"{url}?ca={tmp_path}/none.pem")
        with pytest.raises(ConfigurationError, match=r"passwd cannot be used: "):
            open_link(f"{url}?ca=/etc/passwd")


def test_what_is_no_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgelstm_bridge.links.mqtt_link.CONNECT_TIMEOUT_S", 0.3)
    with TcpPeer() as peer, pytest.raises(SourceError, match="not answer as an MQTT broker does"):
        open_link(peer.url.replace("socket", "mqtt") + "/pump")


def test_without_paho_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("paho")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "paho", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[mqtt\]'"):
        open_link("mqtt://127.0.0.1:1/pump")


def test_every_message_is_a_reading_the_first_one_too(broker: Broker) -> None:
    opened: list[Source] = []
    url = topic(broker, "rare")
    opening = threading.Thread(target=lambda: opened.append(open_source(url, connect_timeout=30)))
    opening.start()
    while opening.is_alive():
        broker.publish("rare", b"7,2")
        opening.join(0.1)
    with opened[0] as source:
        deadline = time.monotonic() + 30
        while source.counters.readings * len(b"7,2\n") < source.counters.bytes:
            assert time.monotonic() < deadline, source.counters
            time.sleep(0.01)
        assert source.counters.readings >= 3
