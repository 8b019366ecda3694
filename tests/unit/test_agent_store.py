from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from agent_device import Caller, a_layout, put, told
from hypothesis import given
from hypothesis import strategies as st

from edgelstm_devices.agent.context import AgentError
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.store import intact, missing, receive

CONTENT = bytes(range(256)) * 3000  # several blocks


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return a_layout(tmp_path)


def test_what_is_missing_is_sent_once(layout: Layout) -> None:
    file = told(CONTENT)
    assert missing(Caller(), layout=layout, files=[file]) == [{**file, "have": 0}]
    assert not layout.root.exists()  # asking changes nothing
    put(layout, CONTENT)
    assert missing(Caller(), layout=layout, files=[file]) == []
    assert [path.read_bytes() for path in layout.store.iterdir()] == [CONTENT]
    put(layout, CONTENT)


def test_an_empty_file_is_a_file(layout: Layout) -> None:
    assert missing(Caller(), layout=layout, files=[told(b"")]) == [{**told(b""), "have": 0}]
    put(layout, b"")
    assert missing(Caller(), layout=layout, files=[told(b"")]) == []


@pytest.mark.parametrize("came", [1, 262_144, len(CONTENT) - 1])
def test_a_connection_that_ends_costs_only_what_was_under_way(layout: Layout, came: int) -> None:
    file = told(CONTENT)
    with pytest.raises(AgentError, match=f"ended after {came:,} of 768,000 bytes"):
        receive(Caller(CONTENT[:came]), layout=layout, offset=0, **file)
    assert missing(Caller(), layout=layout, files=[file]) == [{**file, "have": came}]
    receive(Caller(CONTENT[came:]), layout=layout, offset=came, **file)
    assert intact(layout, file["sha256"]).read_bytes() == CONTENT


def test_it_may_go_on_earlier_but_not_later_than_what_came(layout: Layout) -> None:
    file = told(CONTENT)
    with pytest.raises(AgentError, match="has 0 bytes"):
        receive(Caller(CONTENT), layout=layout, offset=5, **file)
    with pytest.raises(AgentError, match="ended after"):
        receive(Caller(CONTENT[:1000]), layout=layout, offset=0, **file)
    with pytest.raises(AgentError, match="has 1000 bytes of a file that was to go on at 1001"):
        receive(Caller(CONTENT[1001:]), layout=layout, offset=1001, **file)
    receive(Caller(CONTENT[10:]), layout=layout, offset=10, **file)
    assert intact(layout, file["sha256"]).read_bytes() == CONTENT


def test_another_content_gets_no_name_and_is_not_gone_on_from(layout: Layout) -> None:
    file = told(CONTENT)
    with pytest.raises(AgentError, match="did not arrive at the device as it was sent"):
        receive(Caller(b"x" * len(CONTENT)), layout=layout, offset=0, **file)
    assert list(layout.store.iterdir()) == []


def test_what_a_power_cut_left_of_a_file_is_found_out(layout: Layout) -> None:
    file = told(CONTENT)
    layout.store.mkdir(parents=True)
    part = layout.store / f"{file['sha256']}.part"
    part.write_bytes(b"\0" * 4096)  # its size reached the disk, its content did not
    with pytest.raises(AgentError, match="lay there damaged"):
        receive(Caller(CONTENT[4096:]), layout=layout, offset=4096, **file)
    assert not part.exists()


def test_more_than_the_file_is_cut_off(layout: Layout) -> None:
    file = told(CONTENT)
    layout.store.mkdir(parents=True)
    (layout.store / f"{file['sha256']}.part").write_bytes(CONTENT + b"more")
    [lacking] = missing(Caller(), layout=layout, files=[file])
    assert lacking["have"] == len(CONTENT)
    receive(Caller(), layout=layout, offset=lacking["have"], **file)
    assert intact(layout, file["sha256"]).read_bytes() == CONTENT


def test_a_damaged_file_is_found_and_removed(layout: Layout) -> None:
    file = put(layout, CONTENT)
    path = layout.store / file["sha256"]
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(AgentError, match="was damaged and is removed now"):
        intact(layout, file["sha256"])
    assert missing(Caller(), layout=layout, files=[file]) != []
    with pytest.raises(AgentError, match="lacks the file"):
        intact(layout, file["sha256"])


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_a_digest_names_a_file(layout: Layout, sha256: str) -> None:
    with pytest.raises(AgentError, match="is no sha256"):
        receive(Caller(b""), layout=layout, sha256=sha256, size=0, offset=0)


def test_no_file_is_begun_that_has_no_room(layout: Layout) -> None:
    file: dict[str, Any] = {"sha256": "0" * 64, "size": 1 << 60}
    with pytest.raises(AgentError, match="disk is full"):
        missing(Caller(), layout=layout, files=[file])
    with pytest.raises(AgentError, match="what runs there was left alone"):
        receive(Caller(b"x"), layout=layout, offset=0, **file)
    assert list(layout.store.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_given_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    other = put(layout, b"another file")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AgentError, match="disk is full"):
        put(layout, CONTENT)
    assert [path.name for path in layout.store.iterdir()] == [other["sha256"]]


def test_everybody_may_read_whatever_the_umask_is(layout: Layout) -> None:
    before = os.umask(0o077)
    try:
        file = put(layout, CONTENT)
    finally:
        os.umask(before)
    assert layout.store.stat().st_mode & 0o777 == 0o755
    assert layout.root.stat().st_mode & 0o777 == 0o755
    assert (layout.store / file["sha256"]).stat().st_mode & 0o777 == 0o644


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_sequence_of_broken_connections_ends_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int]
) -> None:
    layout = a_layout(tmp_path_factory.mktemp("device"))
    file = told(content)
    for cut in [*cuts, len(content)]:
        lacking = missing(Caller(), layout=layout, files=[file])
        if not lacking:
            break
        have = lacking[0]["have"]
        body = content[have : max(cut, have)]
        if have + len(body) < len(content):
            with pytest.raises(AgentError, match="connection ended"):
                receive(Caller(body), layout=layout, offset=have, **file)
        else:
            receive(Caller(body), layout=layout, offset=have, **file)
    stored = layout.store / file["sha256"]
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == file["sha256"]
