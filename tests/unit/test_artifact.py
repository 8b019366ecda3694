from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgelstm.artifact import GOLDEN, MANIFEST, Artifact
from edgelstm.backends import litert
from edgelstm.errors import ArtifactError, ConfigurationError, OutputExistsError
from edgelstm.session import load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pump.tflite"


@pytest.fixture(scope="module")
def content(tiny_path: Path) -> bytes:
    return tiny_path.read_bytes()


def same(a: Artifact, b: Artifact) -> bool:
    return (
        a.manifest == b.manifest
        and a.flatbuffer == b.flatbuffer
        and np.array_equal(a.golden.x, b.golden.x)
        and np.array_equal(a.golden.y, b.golden.y)
        and a.golden.y.dtype == b.golden.y.dtype
    )


def refusal(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        Artifact.read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# Writing


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_window", "tiny_ports", "tiny_tokens"])
def test_write_and_read_round_trip(name: str, path: Path, request: pytest.FixtureRequest) -> None:
    artifact = request.getfixturevalue(name)
    artifact.write(path)
    assert same(Artifact.read(path), artifact)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_round_trip_of_a_changed_manifest(tiny: Artifact, path: Path) -> None:
    port = dataclasses.replace(tiny.manifest.inputs[0], clip=8.0)
    manifest = dataclasses.replace(tiny.manifest, name="Pumpe Süd", inputs=(port,), detection=None)
    changed = dataclasses.replace(tiny, manifest=manifest)
    changed.write(path)
    assert Artifact.read(path).manifest == manifest


def test_same_content_gives_the_same_bytes(tiny: Artifact, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tflite", tmp_path / "elsewhere.tflite"
    tiny.write(first)
    os.utime(first, (0, 0))
    tiny.write(second)
    assert first.read_bytes() == second.read_bytes()


def test_write_refuses_to_overwrite_unless_forced(tiny: Artifact, path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--force"):
        tiny.write(path)
    assert path.read_bytes() == b"precious"
    tiny.write(path, force=True)
    assert same(Artifact.read(path), tiny)


def test_write_refuses_a_missing_folder(tiny: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        tiny.write(tmp_path / "missing" / "pump.tflite")


def test_failed_write_leaves_nothing_and_keeps_the_old_file(
    tiny: Artifact, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path.write_bytes(b"precious")
    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="No space left"):
        tiny.write(path, force=True)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"precious"


# What other tools see


def test_file_starts_with_the_flatbuffer(tiny: Artifact, content: bytes) -> None:
    assert content[4:8] == b"TFL3"
    assert content.startswith(tiny.flatbuffer)
    assert len(tiny.flatbuffer) == tiny.manifest.flatbuffer_bytes


def test_file_is_a_zip_of_two_members(tiny: Artifact, path: Path) -> None:
    tiny.write(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [MANIFEST, GOLDEN]
        assert archive.testzip() is None


@pytest.mark.skipif(shutil.which("unzip") is None, reason="run: apt-get install unzip")
def test_unzip_lists_the_two_members(tiny_path: Path) -> None:
    done = subprocess.run(["unzip", "-l", tiny_path], capture_output=True, text=True, check=True)  # noqa: S607  # found by which
    assert MANIFEST in done.stdout
    assert GOLDEN in done.stdout


def test_whole_file_loads_in_a_plain_interpreter(tiny: Artifact, tiny_path: Path) -> None:
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = interpreter_module.Interpreter(model_path=str(tiny_path))
    step = interpreter.get_signature_list()["step"]
    manifest = tiny.manifest
    assert set(step["inputs"]) == {"x", *(pair.input.name for pair in manifest.states)}
    assert set(step["outputs"]) == {"y", *(pair.output.name for pair in manifest.states)}


# Damage


def test_damaged_flatbuffer_is_refused_before_an_interpreter_sees_it(
    content: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []

    def interpreter(self: object, flatbuffer: bytes, threads: int) -> None:
        opened.append(flatbuffer)
        raise AssertionError

    monkeypatch.setattr(litert.LiteRtGraph, "_interpreter", interpreter)
    damaged = bytearray(content)
    damaged[3000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="is damaged: its model does not have the sha256"):
        load(path)
    assert opened == []
    path.write_bytes(content)
    with pytest.raises(AssertionError):
        load(path)
    assert len(opened) == 1


def test_flipped_byte_anywhere_is_refused_or_harmless(
    tiny: Artifact, content: bytes, path: Path
) -> None:
    appended = tiny.manifest.flatbuffer_bytes
    positions = [
        *np.linspace(0, appended - 1, 40, dtype=int),
        *np.linspace(appended, len(content) - 300, 120, dtype=int),
        *range(len(content) - 300, len(content), 2),  # the directory of the archive
    ]
    for position in positions:
        for mask in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            try:
                read = Artifact.read(path)
            except ArtifactError:
                continue
            assert same(read, tiny), position
            assert position >= appended


def test_truncated_file_is_refused(content: bytes, path: Path) -> None:
    lengths = [*range(0, len(content), 97), *range(len(content) - 50, len(content))]
    for length in lengths:
        refusal(path, content[:length])


def test_truncated_file_says_what_it_is(content: bytes, path: Path) -> None:
    message = refusal(path, content[:-1])
    assert "TFLite model without a readable edgelstm manifest" in message
    assert "edgelstm quantize" in message


@pytest.mark.parametrize("member", [MANIFEST, GOLDEN])
def test_archive_without_a_member_is_refused(
    tiny: Artifact, path: Path, member: str, tmp_path: Path
) -> None:
    tiny.write(path)
    with zipfile.ZipFile(path) as archive:
        rest = {name: archive.read(name) for name in archive.namelist() if name != member}
    path.write_bytes(tiny.flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in rest.items():
            archive.writestr(name, data)
    assert "without a readable edgelstm manifest" in refusal(path)


def test_manifest_of_another_model_is_refused(
    tiny: Artifact, tiny_float32: Artifact, path: Path
) -> None:
    dataclasses.replace(tiny, flatbuffer=tiny_float32.flatbuffer).write(path)
    assert "does not have the sha256" in refusal(path)


def test_unknown_schema_version_names_the_file(tiny: Artifact, path: Path) -> None:
    manifest = dataclasses.replace(tiny.manifest, schema_version=3)
    dataclasses.replace(tiny, manifest=manifest).write(path)
    assert "schema version 3" in refusal(path)


# Other files


def test_missing_file(path: Path) -> None:
    assert "cannot be read: No such file" in refusal(path)


def test_folder(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_plain_tflite(tiny: Artifact, path: Path) -> None:
    message = refusal(path, tiny.flatbuffer)
    assert "is a TFLite model without a readable edgelstm manifest" in message


def test_keras_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
    message = refusal(path)
    assert "looks like a Keras model" in message
    assert "edgelstm quantize" in message


def test_hdf5_file(path: Path) -> None:
    assert "looks like a Keras model" in refusal(path, b"\x89HDF\r\n\x1a\n" + bytes(2000))


@pytest.mark.parametrize("content", [b"", b"time,flow\n0,1\n", bytes(5000)])
def test_other_files(path: Path, content: bytes) -> None:
    assert "is not an edgelstm artifact" in refusal(path, content)


def test_random_bytes(path: Path) -> None:
    rng = np.random.default_rng(0)
    for length in (10, 1000, 100_000):
        assert "is not an edgelstm artifact" in refusal(path, rng.bytes(length))
