"""Signatures: what holds, and what an attacker who can write the file may try."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelstm import load, model_file, signing
from edgelstm.artifact import GOLDEN, MANIFEST, SEAL_BYTES, SIGNATURE, Artifact, read_bytes, seal
from edgelstm.errors import ArtifactError, MissingDependencyError, SignatureError
from edgelstm.keys import PrivateKey, PublicKey, write_new_keys
from edgelstm.model_file import read_model
from edgelstm.signed_file import Content, Signature, compose, divide
from edgelstm.signing import KeyRing, TrustedKeys, check_signature, sign, signed_by

DATA = Path(__file__).parents[1] / "data"
NAMES = sorted(path.name for path in DATA.glob("tiny*.tflite"))


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture(scope="module")
def trusted(key: PrivateKey) -> TrustedKeys:
    return only(key)


@pytest.fixture(scope="module")
def unsigned(tiny_path: Path) -> bytes:
    return tiny_path.read_bytes()


@pytest.fixture(scope="module")
def signed(unsigned: bytes, key: PrivateKey) -> bytes:
    return sign(unsigned, key, "tiny.tflite")


def only(key: PrivateKey) -> TrustedKeys:
    return TrustedKeys((KeyRing("the test", (key.public,)),))


def sealed(data: bytes) -> bytes:
    """With a right seal, which anybody can make."""
    return data[:-SEAL_BYTES] + seal(data[:-SEAL_BYTES])


def refused(trusted: TrustedKeys, data: bytes) -> str:
    with pytest.raises(SignatureError) as caught:
        trusted.check(data, "x.tflite")
    message = str(caught.value)
    assert message.startswith("x.tflite ")
    assert message.endswith(".")
    return message


# What holds


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_file_is_the_same_artifact(name: str, key: PrivateKey) -> None:
    before = (DATA / name).read_bytes()
    data = sign(before, key, name)
    only(key).check(data, name)
    assert check_signature(data, name) == signed_by(data) == key.public
    old, new = Artifact.from_bytes(before, name), Artifact.from_bytes(data, name)
    assert (new.manifest, new.flatbuffer, new.cpu) == (old.manifest, old.flatbuffer, old.cpu)
    assert np.array_equal(new.golden.y, old.golden.y)


def test_other_tools_see_an_ordinary_archive(signed: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(signed)) as archive:
        assert archive.namelist() == [MANIFEST, GOLDEN, SIGNATURE]
        assert archive.testzip() is None


def test_the_whole_file_loads_in_a_plain_interpreter(signed: bytes, tmp_path: Path) -> None:
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    (tmp_path / "x.tflite").write_bytes(signed)
    interpreter = interpreters.Interpreter(model_path=str(tmp_path / "x.tflite"))
    assert "step" in interpreter.get_signature_list()


def test_signing_twice_replaces_and_gives_the_same_bytes(signed: bytes, key: PrivateKey) -> None:
    assert sign(signed, key, "x") == signed
    other = PrivateKey.generate()
    again = sign(signed, other, "x")
    assert signed_by(again) == other.public
    assert len(again) == len(signed)
    assert sign(again, key, "x") == signed


def test_what_is_written_anew_is_not_signed(signed: bytes, unsigned: bytes, tmp_path: Path) -> None:
    Artifact.from_bytes(signed, "x").write(tmp_path / "x.tflite")
    assert (tmp_path / "x.tflite").read_bytes() == unsigned


def test_the_model_for_the_cpu_is_signed_too(
    tiny: Artifact, key: PrivateKey, trusted: TrustedKeys, tmp_path: Path
) -> None:
    digest = hashlib.sha256(tiny.flatbuffer).hexdigest()
    manifest = replace(tiny.manifest, cpu_sha256=digest)
    replace(tiny, manifest=manifest, cpu=tiny.flatbuffer).write(tmp_path / "x.tflite")
    data = sign((tmp_path / "x.tflite").read_bytes(), key, "x.tflite")
    trusted.check(data, "x.tflite")
    assert Artifact.from_bytes(data, "x.tflite").cpu == tiny.flatbuffer


def test_without_keys_everything_may_run(unsigned: bytes) -> None:
    TrustedKeys().check(unsigned, "x.tflite")
    TrustedKeys().check(b"", "x.tflite")
    assert not TrustedKeys()


def test_one_of_several_keys_will_do(signed: bytes, key: PrivateKey) -> None:
    keys = (PrivateKey.generate().public, key.public)
    TrustedKeys((KeyRing("here", keys),)).check(signed, "x.tflite")


def test_each_place_that_has_keys_must_have_the_one(signed: bytes, key: PrivateKey) -> None:
    other = PrivateKey.generate().public
    device, narrower = KeyRing("device", (other, key.public)), KeyRing("file", (key.public,))
    TrustedKeys((device, narrower)).check(signed, "x.tflite")
    wider = TrustedKeys((KeyRing("device", (other,)), KeyRing("file", (other, key.public))))
    message = refused(wider, signed)
    assert f"the key {key.public}, which is not trusted here: device has {other}" in message


# Files that are not what was signed


def test_no_byte_can_be_changed(signed: bytes, trusted: TrustedKeys, tiny: Artifact) -> None:
    content, _ = divide(signed)
    end = len(signed)
    positions = {
        *range(8, 8 + 64),
        *range(8, len(content.data), 41),
        *range(tiny.manifest.flatbuffer_bytes, tiny.manifest.flatbuffer_bytes + 60),
        *range(len(content.data), end),  # the signature, the directory, the end, the seal
    }
    for position in sorted(positions):
        for mask in (0x01, 0x80, 0xFF):
            changed = bytearray(signed)
            changed[position] ^= mask
            refused(trusted, bytes(changed))
            if position < end - SEAL_BYTES:
                refused(trusted, sealed(bytes(changed)))


def test_bytes_cannot_be_added_or_left_out(signed: bytes, trusted: TrustedKeys) -> None:
    content, _ = divide(signed)
    places = (len(content.data), content.model_bytes, len(signed) - SEAL_BYTES, 1000)
    for place in places:
        for more in (b"\0", b"PK\5\6" + bytes(18), bytes(100)):
            refused(trusted, sealed(signed[:place] + more + signed[place:]))
        refused(trusted, sealed(signed[: place - 1] + signed[place:]))
    for more in (b"\0", b"\n", bytes(71), signed[-93:]):
        refused(trusted, signed + more)
        refused(trusted, signed + more + seal(signed + more))


def test_a_part_of_a_file_is_refused(signed: bytes, trusted: TrustedKeys) -> None:
    for length in [*range(8, len(signed), 203), *range(len(signed) - 40, len(signed))]:
        refused(trusted, signed[:length])
        if length > 200:
            refused(trusted, sealed(signed[:length]))


def test_a_file_that_is_not_signed(unsigned: bytes, trusted: TrustedKeys, tiny: Artifact) -> None:
    assert "is not signed: sign it" in refused(trusted, unsigned)
    assert "is not signed, or was changed" in refused(trusted, tiny.flatbuffer)  # a plain one
    assert signed_by(unsigned) is None
    with pytest.raises(ArtifactError, match="looks like a Keras model"):
        trusted.check(b"\x89HDF" + bytes(2000), "x.keras")
    for data in (b"", b"TFL3", bytes(5000)):
        with pytest.raises(ArtifactError, match="is not an edgelstm artifact"):
            trusted.check(data, "x.tflite")


def test_another_key(unsigned: bytes, signed: bytes, key: PrivateKey, trusted: TrustedKeys) -> None:
    other = PrivateKey.generate()
    assert "which is not trusted here" in refused(trusted, sign(unsigned, other, "x"))
    # Its signature under the name of the trusted one.
    content, _ = divide(signed)
    forged = compose(content, Signature(key.public, other.sign(content.message())))
    assert "is not what the key" in refused(trusted, forged)
    with pytest.raises(SignatureError, match="changed since"):
        check_signature(forged, "x")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tiny.tflite"])
def test_the_signature_of_another_file(name: str, signed: bytes, trusted: TrustedKeys) -> None:
    _, signature = divide(signed)
    content, _ = divide((DATA / name).read_bytes())
    assert "has the signature of another file" in refused(trusted, compose(content, signature))


def test_a_signature_of_something_else(key: PrivateKey, signed: bytes) -> None:
    content, _ = divide(signed)
    for message in (content.data, hashlib.sha256(content.data).digest(), content.message()[:-1]):
        forged = compose(content, Signature(key.public, key.sign(message)))
        assert "is not what the key" in refused(only(key), forged)


def test_where_the_archive_begins_is_signed(signed: bytes, trusted: TrustedKeys) -> None:
    """An archive that begins later would show other entries: here it has lost its manifest."""
    content, signature = divide(signed)
    with zipfile.ZipFile(io.BytesIO(signed)) as archive:
        second = archive.infolist()[1].header_offset
    moved = compose(Content(content.data, second), signature)
    with zipfile.ZipFile(io.BytesIO(moved)) as archive:
        assert archive.namelist() == [GOLDEN, SIGNATURE]
    assert "is not what the key" in refused(trusted, moved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", [MANIFEST, GOLDEN, SIGNATURE, "edgelstm/cpu.tflite", "more"])
def test_another_entry(
    name: str, signed: bytes, unsigned: bytes, trusted: TrustedKeys, tmp_path: Path
) -> None:
    """Appended with a usual tool: the last of two entries of one name is the one that counts."""
    for data in (signed, unsigned):
        path = tmp_path / "x.tflite"
        path.write_bytes(data)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), b"{}")
            archive.comment = bytes(SEAL_BYTES)
        refused(trusted, sealed(path.read_bytes()))


def packed(flatbuffer: bytes, entries: list[tuple[str, bytes]]) -> bytes:
    """As `Artifact.write` packs it, whatever the entries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of one name
        buffer = io.BytesIO(flatbuffer)
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries:
                archive.writestr(
                    zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED
                )
            archive.comment = bytes(SEAL_BYTES)
    return sealed(buffer.getvalue())


def entries_of(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_the_same_archive_in_another_order_or_twice(
    signed: bytes, trusted: TrustedKeys, tiny: Artifact
) -> None:
    entries = entries_of(signed)
    assert packed(tiny.flatbuffer, entries[:2]) == sealed(packed(tiny.flatbuffer, entries[:2]))
    for changed in (
        entries,  # the signature is compressed, now
        entries[::-1],
        [entries[2], *entries[:2]],
        [*entries, entries[2]],
        [*entries[:2], entries[1], entries[2]],
        entries[1:],
    ):
        refused(trusted, packed(tiny.flatbuffer, changed))


def test_two_views_of_one_file(signed: bytes, trusted: TrustedKeys, tiny: Artifact) -> None:
    """The signed bytes are all there, and the directory leads to others."""
    content, signature = divide(signed)
    evil = replace(tiny.manifest, name="evil").to_json().encode()
    other = packed(content.data, [(MANIFEST, evil), (GOLDEN, dict(entries_of(signed))[GOLDEN])])
    assert Artifact.from_bytes(other, "x").manifest.name == "evil"  # but for the signature, it runs
    assert other.startswith(content.data)
    refused(trusted, other)
    # With the true signature's entry behind them.
    _, stored = entries_of(signed)[2]
    buffer = io.BytesIO(other[:-SEAL_BYTES] + bytes(SEAL_BYTES))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(zipfile.ZipInfo(SIGNATURE, (1980, 1, 1, 0, 0, 0)), stored)
    refused(trusted, sealed(buffer.getvalue()))
    # A directory in front of the directory, or an end in front of the end.
    at = len(signed) - SEAL_BYTES - 22
    refused(trusted, sealed(signed[:at] + signed[at:-SEAL_BYTES] + signed[at:]))
    assert signature is not None


def test_a_directory_that_says_something_else(signed: bytes, trusted: TrustedKeys) -> None:
    """zipfile reads sizes and places from the directory, other tools from the entries."""
    at = signed.index(b"PK\x01\x02")
    for offset in range(46):
        changed = bytearray(signed)
        changed[at + offset] ^= 0x10
        refused(trusted, sealed(bytes(changed)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"algorithm": "rsa"}, "in a way that this edgelstm does not know ('rsa', version 1)"),
        ({"algorithm": "none"}, "('none', version 1)"),
        ({"version": 2}, "('ed25519', version 2)"),
        ({"version": True}, "was changed since"),
        ({"signature": ""}, "its signature is damaged"),
        ({"signature": None}, "its signature is damaged"),
        ({"signature": base64.b64encode(bytes(64)).decode()}, "is not what the key"),
        ({"key": base64.b64encode(bytes(44)).decode()}, "its signature is damaged"),
        ({"bytes": 1}, "was changed since"),
        ({"model_bytes": 1}, "was changed since"),
        ({"by": "you"}, "was changed since"),
        ({"more": "x" * 5000}, "its signature is damaged"),
    ],
)
def test_a_signature_that_says_something_else(
    change: dict[str, object], says: str, signed: bytes, trusted: TrustedKeys
) -> None:
    _, stored = entries_of(signed)[2]
    text = (json.dumps(json.loads(stored) | change, indent=2) + "\n").encode()
    assert says in refused(trusted, with_stored(signed, text))


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b"{" * 3000, b"\xff", b"1" * 5000])
def test_a_signature_that_makes_no_sense(text: bytes, signed: bytes, trusted: TrustedKeys) -> None:
    assert "its signature is damaged" in refused(trusted, with_stored(signed, text))


def test_a_signature_that_is_written_otherwise(signed: bytes, trusted: TrustedKeys) -> None:
    _, stored = entries_of(signed)[2]
    assert with_stored(signed, stored) == signed
    for text in (
        stored + b"\n",
        stored.replace(b"  ", b" "),
        stored.replace(b'  "bytes": ', b'  "bytes": 1,\n  "bytes": '),
        json.dumps(dict(reversed(json.loads(stored).items())), indent=2).encode() + b"\n",
        stored.replace(b"==", b"\\u003d\\u003d"),
    ):
        assert text != stored
        refused(trusted, with_stored(signed, text))


def with_stored(signed: bytes, stored: bytes) -> bytes:
    """With something else in the signature's entry, and a directory that fits."""
    content, _ = divide(signed)
    buffer = io.BytesIO(packed(content.data[: content.model_bytes], entries_of(signed)[:2]))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(zipfile.ZipInfo(SIGNATURE, (1980, 1, 1, 0, 0, 0)), stored)
        archive.comment = bytes(SEAL_BYTES)
    return sealed(buffer.getvalue())


# What cannot be signed


def test_what_was_changed_since_it_was_signed_is_not_signed_again(
    signed: bytes, key: PrivateKey
) -> None:
    content, signature = divide(signed)
    manifest = content.data.replace(b"\x08\x00\x00\x00!\x00", b"\x08\x00\x01\x00!\x00", 1)
    assert manifest != content.data  # a date in it
    changed = compose(replace(content, data=manifest), signature)
    Artifact.from_bytes(changed, "x")
    with pytest.raises(SignatureError, match="changed since"):
        sign(changed, PrivateKey.generate(), "x")


def test_what_is_no_artifact_is_not_signed(
    unsigned: bytes, key: PrivateKey, tiny: Artifact
) -> None:
    with pytest.raises(ArtifactError, match="without a readable edgelstm manifest"):
        sign(tiny.flatbuffer, key, "x")
    with pytest.raises(ArtifactError, match="is damaged"):
        sign(unsigned[:3000] + b"?" + unsigned[3001:], key, "x")


def test_what_is_packed_otherwise_is_not_signed(
    unsigned: bytes, key: PrivateKey, tiny: Artifact
) -> None:
    entries = entries_of(unsigned)
    assert sign(packed(tiny.flatbuffer, entries), key, "x")
    twice = packed(tiny.flatbuffer, [(MANIFEST, b"{}"), *entries])
    Artifact.from_bytes(twice, "x")
    with pytest.raises(SignatureError, match=r"is not packed as .* same name"):
        sign(twice, key, "x")
    gap = packed(tiny.flatbuffer + bytes(7), entries)
    Artifact.from_bytes(gap, "x")
    with pytest.raises(SignatureError, match="between its model and its archive"):
        sign(gap, key, "x")


# The way to a session


def test_only_what_is_signed_is_loaded(
    signed: bytes, unsigned: bytes, trusted: TrustedKeys, tmp_path: Path
) -> None:
    path = tmp_path / "pump.tflite"
    path.write_bytes(signed)
    with load(path, trusted=trusted) as session:
        assert session.check().first is None
    path.write_bytes(unsigned)
    with pytest.raises(SignatureError, match="is not signed"):
        load(path, trusted=trusted)
    with load(path, trusted=TrustedKeys()):
        pass


def test_what_is_checked_is_what_is_used(
    signed: bytes, trusted: TrustedKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is another one by the time it is looked at again."""
    path = tmp_path / "pump.tflite"
    path.write_bytes(signed)

    def then_replaced(file: Path) -> bytes:
        data = read_bytes(file)
        path.write_bytes((DATA / "tiny_window.tflite").read_bytes())
        return data

    monkeypatch.setattr(model_file, "read_bytes", then_replaced)
    assert read_model(path, trusted).manifest == Artifact.from_bytes(signed, path).manifest


@pytest.mark.parametrize("module", ["cryptography", "cryptography.exceptions"])
def test_without_cryptography_nothing_is_accepted(
    module: str,
    signed: bytes,
    unsigned: bytes,
    trusted: TrustedKeys,
    key: PrivateKey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "key.pem").touch()
    path = tmp_path / "pump.tflite"
    path.write_bytes(signed)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    need: list[Callable[[], object]] = [
        lambda: load(path, trusted=trusted),
        lambda: check_signature(signed, path),
        PrivateKey.generate,
        lambda: PrivateKey.read(tmp_path / "key.pem"),
        lambda: write_new_keys(tmp_path / "new.pem"),
    ]
    for each in need:
        with pytest.raises(MissingDependencyError, match=r"pip install 'edgelstm\[sign\]'"):
            each()
    assert {file.name for file in tmp_path.iterdir()} == {"key.pem", "pump.tflite"}
    path.write_bytes(unsigned)
    with pytest.raises(SignatureError, match="is not signed"):
        load(path, trusted=trusted)
    with load(path):
        pass


# The keys of a device


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a device's keys, which is not there yet."""
    folder = tmp_path / "etc/edgelstm/trusted"
    folder.parent.mkdir(parents=True)
    monkeypatch.setattr(signing, "TRUSTED_FOLDER", folder)
    return folder


def put(folder: Path, name: str = "key.pem") -> PublicKey:
    folder.mkdir(parents=True, exist_ok=True)
    key = PrivateKey.generate().public
    (folder / name).write_text(key.pem)
    return key


def places(trusted: TrustedKeys) -> dict[str, tuple[PublicKey, ...]]:
    return {ring.place: ring.keys for ring in trusted.rings}


def test_a_device_without_keys_trusts_everybody(device: Path, tmp_path: Path) -> None:
    for environ in ({}, {"HOME": ""}, {"HOME": "relative"}, {"HOME": str(tmp_path)}):
        assert not TrustedKeys.of_device(environ=environ)
    device.mkdir()
    (device / "README").write_text("no key")
    assert not TrustedKeys.of_device(environ={})


def test_keys_of_the_device_of_the_user_and_of_the_configuration(
    device: Path, tmp_path: Path
) -> None:
    first, second = put(device, "b.pem"), put(device, "a.pem")
    own = put(tmp_path / ".config/edgelstm/trusted")
    configured = put(tmp_path, "mine.pem")
    found = TrustedKeys.of_device([tmp_path / "mine.pem"], {"HOME": str(tmp_path)})
    assert places(found) == {
        str(device): (second, first),
        str(tmp_path / ".config/edgelstm/trusted"): (own,),
        "public_keys of the configuration": (configured,),
    }


def test_a_file_that_is_no_key_stops_everything(device: Path) -> None:
    put(device)
    (device / "other.pem").write_text("no key")
    with pytest.raises(SignatureError, match=r"other\.pem is not the PEM file of one public key"):
        TrustedKeys.of_device(environ={})
    (device / "other.pem").unlink()
    (device / "other.pem").mkdir()
    with pytest.raises(SignatureError, match="cannot be read: Is a directory"):
        TrustedKeys.of_device(environ={})
    (device / "other.pem").rmdir()
    (device / "other.pem").symlink_to("gone")
    with pytest.raises(SignatureError, match="cannot be read: No such file"):
        TrustedKeys.of_device(environ={})


def test_a_folder_that_cannot_be_read_stops_everything(device: Path, tmp_path: Path) -> None:
    device.symlink_to("elsewhere")
    with pytest.raises(SignatureError, match="leads nowhere"):
        TrustedKeys.of_device(environ={})
    device.unlink()
    device.write_text("a file")
    with pytest.raises(SignatureError, match="cannot be read, so whose artifacts may run"):
        TrustedKeys.of_device(environ={})


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Without the right to look into a folder."""
    before, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0)
    if before == 0:
        os.seteuid(65534)  # root may look into everything
    try:
        yield
    finally:
        os.seteuid(before)
        folder.chmod(mode)


def test_a_folder_that_the_service_may_not_see(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / ".config/edgelstm/trusted")
    monkeypatch.setattr(signing, "TRUSTED_FOLDER", Path("/no/such/folder"))
    with nobody(tmp_path / ".config"):  # as ProtectHome= does it
        assert not TrustedKeys.of_device(environ={"HOME": str(tmp_path)})
    with nobody(tmp_path / ".config/edgelstm/trusted"):
        assert not TrustedKeys.of_device(environ={"HOME": str(tmp_path)})
    assert TrustedKeys.of_device(environ={"HOME": str(tmp_path)})
    monkeypatch.setattr(signing, "TRUSTED_FOLDER", device)
    put(device)
    with (
        nobody(device),
        pytest.raises(SignatureError, match="cannot be read, so whose artifacts may run"),
    ):
        TrustedKeys.of_device(environ={})
