from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from link_peers import PipePeer, read_to_end

from edgelstm.errors import SourceError
from edgelstm_bridge.links import LinkEnded, make_opener
from edgelstm_bridge.urls import parse_url

ECHO = """
import os, sys
from edgelstm_bridge.links import LinkEnded, make_opener
from edgelstm_bridge.urls import parse_url

with make_opener(parse_url("stdin:"))() as link:
    try:
        while True:
            chunk = link.read(1.0)
            sys.stdout.buffer.write(chunk.data if chunk else b"")
    except LinkEnded as end:
        sys.stdout.buffer.write(str(end).encode())
os.fstat(0)
"""
THE_END = b"the standard input has come to its end."


@contextmanager
def closed_stdin() -> Iterator[None]:
    saved = os.dup(0)
    os.close(0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


def test_a_pipe_gives_its_bytes_and_ends() -> None:
    data = os.urandom(1_000_000)
    echo = subprocess.run([sys.executable, "-c", ECHO], input=data, capture_output=True, check=True)
    assert echo.stdout == data + THE_END


def test_a_file_and_the_null_device_end_too(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    data = os.urandom(100_000)
    path.write_bytes(data)
    for name, wanted in ((path, data), (Path(os.devnull), b"")):
        with name.open("rb") as stdin:
            echo = subprocess.run(
                [sys.executable, "-c", ECHO], stdin=stdin, capture_output=True, check=True
            )
        assert echo.stdout == wanted + THE_END


def test_the_end_comes_again_and_again_and_the_input_stays_open() -> None:
    opener = make_opener(parse_url("stdin:"))
    with PipePeer() as peer:
        peer.send(b"all")
        with opener() as link:
            peer.hang_up()
            data, end = read_to_end(link)
            assert (data, type(end)) == (b"all", LinkEnded)
            with pytest.raises(LinkEnded):
                link.read(0)
        os.fstat(0)
        with opener() as link, pytest.raises(LinkEnded):
            link.read(0)


def test_the_input_stays_blocking_for_who_shares_it() -> None:
    with PipePeer() as peer, peer.open():
        assert os.get_blocking(0)


def test_a_process_without_an_input_is_told_so() -> None:
    with (
        closed_stdin(),
        pytest.raises(SourceError, match="There is no standard input: pipe something"),
    ):
        make_opener(parse_url("stdin:"))()
