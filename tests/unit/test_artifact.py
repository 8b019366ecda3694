from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgelstm import load
from edgelstm.artifact import CPU, GOLDEN, MANIFEST, Artifact, Golden
from edgelstm.backends import litert
from edgelstm.errors import ArtifactError, ConfigurationError, OutputExistsError


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
        and a.cpu == b.cpu
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

    def interpreter(self: object, flatbuffer: bytes, threads: int, delegates: object) -> None:
        opened.append(flatbuffer)
        raise AssertionError

    monkeypatch.setattr(litert.LiteRtGraph, "_open", interpreter)
    damaged = bytearray(content)
    damaged[3000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="is damaged: bytes have changed since it was written"):
        load(path)
    assert opened == []
    path.write_bytes(content)
    with pytest.raises(AssertionError):
        load(path)
    assert len(opened) == 1


def test_flipped_byte_in_the_archive_is_refused(tiny: Artifact, content: bytes, path: Path) -> None:
    appended = tiny.manifest.flatbuffer_bytes
    positions = [
        *np.linspace(appended, len(content) - 300, 120, dtype=int),
        *range(len(content) - 300, len(content), 2),  # the directory of the archive, the seal
    ]
    for position in positions:
        for mask in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= mask
            refusal(path, bytes(damaged))


@pytest.mark.parametrize("length", [1, 22, 71, 1000])
def test_appended_bytes_are_refused(content: bytes, path: Path, length: int) -> None:
    refusal(path, content + bytes(length))
    refusal(path, content + content[-length:])
    refusal(path, bytes(length) + content)


def test_bytes_between_the_model_and_its_archive_are_refused(
    tiny: Artifact, content: bytes, path: Path
) -> None:
    end = tiny.manifest.flatbuffer_bytes
    refusal(path, content[:end] + bytes(16) + content[end:])


def test_a_file_without_its_seal_is_refused(content: bytes, path: Path, tiny: Artifact) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(tiny.flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "is damaged" in refusal(path)


def test_truncated_file_is_refused(content: bytes, path: Path) -> None:
    lengths = [*range(0, len(content), 97), *range(len(content) - 50, len(content))]
    for length in lengths:
        refusal(path, content[:length])


# The model for the CPU that a compiled one carries


def with_twin(artifact: Artifact, twin: bytes) -> Artifact:
    manifest = dataclasses.replace(artifact.manifest, cpu_sha256=hashlib.sha256(twin).hexdigest())
    return dataclasses.replace(artifact, manifest=manifest, cpu=twin)


def test_the_model_for_the_cpu_comes_back(tiny: Artifact, path: Path) -> None:
    assert tiny.cpu is None
    artifact = with_twin(tiny, tiny.flatbuffer)
    artifact.write(path)
    read = Artifact.read(path)
    assert same(read, artifact)
    assert read.cpu == tiny.flatbuffer
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [MANIFEST, GOLDEN, CPU]
    assert load(path).verify() is None


@pytest.mark.parametrize("case", ["changed", "missing", "unknown to the manifest"])
def test_another_model_for_the_cpu_is_refused(
    tiny: Artifact, tiny_float32: Artifact, path: Path, case: str
) -> None:
    artifact = with_twin(tiny, tiny.flatbuffer)
    if case == "changed":
        artifact = dataclasses.replace(artifact, cpu=tiny_float32.flatbuffer)
    elif case == "missing":
        artifact = dataclasses.replace(artifact, cpu=None)
    else:
        artifact = dataclasses.replace(artifact, manifest=tiny.manifest)
    artifact.write(path)
    assert "is damaged" in refusal(path)


def test_truncated_file_says_what_it_is(tiny: Artifact, content: bytes, path: Path) -> None:
    assert "is damaged: bytes have changed" in refusal(path, content[:-1])
    message = refusal(path, content[: tiny.manifest.flatbuffer_bytes + 500])
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
    assert "is damaged" in refusal(path)


@pytest.mark.parametrize("version", [2, 3, 5])
def test_unknown_schema_version_names_the_file(tiny: Artifact, path: Path, version: int) -> None:
    manifest = dataclasses.replace(tiny.manifest, schema_version=version)
    dataclasses.replace(tiny, manifest=manifest).write(path)
    assert (
        f"schema version {version}, and this edgelstm knows version 4: quantize the model again"
        in refusal(path)
    )


def test_an_older_file_without_a_seal_says_its_version(
    tiny: Artifact, path: Path, tmp_path: Path
) -> None:
    manifest = dataclasses.replace(tiny.manifest, schema_version=2)
    dataclasses.replace(tiny, manifest=manifest).write(tmp_path / "new.tflite")
    with zipfile.ZipFile(tmp_path / "new.tflite") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(tiny.flatbuffer)
    with zipfile.ZipFile(path, "a") as archive:  # as it was before there was a seal
        for name, data in members.items():
            archive.writestr(name, data)
    assert "schema version 2" in refusal(path)


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


def test_a_device_never_ends_and_is_not_read() -> None:
    with pytest.raises(ArtifactError, match=r"^/dev/zero is a device; give"):
        Artifact.read("/dev/zero")


def test_a_file_too_large_to_be_a_model_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(ArtifactError, match=r"has 2,147,483,649 bytes, more than"):
        Artifact.read(path)


@pytest.mark.parametrize(
    ("readings", "runs"), [((128, 3), (128, 2)), ((128, 2), (127, 2)), ((128,), (128, 2))]
)
def test_golden_vectors_fit_the_manifest(
    tiny: Artifact, tmp_path: Path, readings: tuple[int, ...], runs: tuple[int, ...]
) -> None:
    golden = Golden(np.zeros(readings, np.float32), np.zeros(runs, np.int8))
    path = tmp_path / "odd.tflite"
    dataclasses.replace(tiny, golden=golden).write(path)
    with pytest.raises(ArtifactError, match="golden vectors that do not fit its manifest"):
        Artifact.read(path)
