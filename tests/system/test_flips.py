"""Damaged files: every one is refused in a sentence, before an interpreter sees it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgelstm import load
from edgelstm.artifact import Artifact
from edgelstm.backends.litert import LiteRtGraph
from edgelstm.errors import ArtifactError

DATA = Path(__file__).parents[1] / "data"
ARTIFACTS = sorted(path.name for path in DATA.glob("tiny*.tflite"))
# Where a ZIP archive has its structure: a member, the directory, its end.
SIGNATURES = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was given to an interpreter."""
    given: list[bytes] = []
    original = LiteRtGraph._open

    def note(self: Any, flatbuffer: bytes, threads: int, delegates: list[Any]) -> Any:
        given.append(flatbuffer)
        return original(self, flatbuffer, threads, delegates)

    monkeypatch.setattr(LiteRtGraph, "_open", note)
    return given


def refusal(path: Path, data: bytes) -> str:
    """The sentence with which a file of these bytes is refused."""
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message.removeprefix(str(path))) < 250
    return message


def flips(length: int, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Places and masks of single bits."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(count):
        yield rng.randrange(length), 1 << rng.randrange(8)


def flipped(data: bytes, place: int, mask: int) -> bytes:
    damaged = bytearray(data)
    damaged[place] ^= mask
    return bytes(damaged)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_file_with_one_flipped_bit_is_refused(
    name: str, tmp_path: Path, opened: list[bytes]
) -> None:
    data = (DATA / name).read_bytes()
    for place, mask in flips(len(data), 1000, seed=len(name)):
        refusal(tmp_path / name, flipped(data, place, mask))
    assert opened == []
    (tmp_path / name).write_bytes(data)
    assert load(tmp_path / name).verify() is None
    assert len(opened) == 1


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_flipped_bit_of_the_model_itself_is_said_to_be_damage(
    name: str, tmp_path: Path, opened: list[bytes]
) -> None:
    data = (DATA / name).read_bytes()
    size = Artifact.read(DATA / name).manifest.flatbuffer_bytes
    for place, mask in flips(size, 300, seed=1):
        message = refusal(tmp_path / name, flipped(data, place, mask))
        assert "is damaged: bytes have changed since it was written" in message
    assert opened == []


def ends(data: bytes) -> set[int]:
    """Lengths around every place that a ZIP archive's structure has, and around the flatbuffer."""
    places = {4, 8, len(data) - 1}
    for signature in SIGNATURES:
        place = data.find(signature)
        while place >= 0:
            places |= {place + i for i in (0, 1, 4, 16, 22, 30, 46)}
            place = data.find(signature, place + 1)
    (size,) = struct.unpack_from("<H", data, data.rindex(SIGNATURES[-1]) + 20)
    places |= {len(data) - size, len(data) - size - 2}  # the seal
    return {place for place in places if 0 <= place < len(data)}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_truncated_file_is_refused(name: str, tmp_path: Path, opened: list[bytes]) -> None:
    data = (DATA / name).read_bytes()
    rng = random.Random(2)  # noqa: S311  # no secret
    lengths = ends(data) | {rng.randrange(len(data)) for _ in range(200)}
    assert len(lengths) > 220
    for length in sorted(lengths):
        refusal(tmp_path / name, data[:length])
    assert opened == []


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_file_with_bytes_too_many_is_refused(
    name: str, tmp_path: Path, opened: list[bytes]
) -> None:
    data = (DATA / name).read_bytes()
    rng = random.Random(3)  # noqa: S311  # no secret
    for count in (1, 2, 71, 100, 5000):
        for more in (bytes(count), rng.randbytes(count), data[-count:], b"\n" * count):
            refusal(tmp_path / name, data + more)
            place = rng.randrange(len(data))
            refusal(tmp_path / name, data[:place] + more + data[place:])
    refusal(tmp_path / name, data + data)
    assert opened == []


@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_file_with_many_bytes_overwritten_is_refused(
    name: str, tmp_path: Path, opened: list[bytes]
) -> None:
    data = (DATA / name).read_bytes()
    rng = random.Random(4)  # noqa: S311  # no secret
    start = Artifact.read(DATA / name).manifest.flatbuffer_bytes
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 30)):  # the archive most of all: it is parsed
            damaged[rng.randrange(start, len(data))] = rng.randrange(256)
        if damaged != data:
            refusal(tmp_path / name, bytes(damaged))
    assert opened == []


def test_files_put_together_from_two_are_refused(tmp_path: Path, opened: list[bytes]) -> None:
    a, b = ((DATA / name).read_bytes() for name in ("tiny.tflite", "tiny_float32.tflite"))
    end_a, end_b = a.index(SIGNATURES[0]), b.index(SIGNATURES[0])
    for mixed in (a[:end_a] + b[end_b:], b[:end_b] + a[end_a:], b[:end_b] + a):
        refusal(tmp_path / "mixed.tflite", mixed)
    assert opened == []
