from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edgelstm.artifact import SIGNATURE
from edgelstm.cli import main
from edgelstm.keys import PrivateKey, PublicKey, write_new_keys

DOCS = Path(__file__).parents[2] / "docs/signing.md"
OPENSSL = shutil.which("openssl") or ""
needs_openssl = pytest.mark.skipif(not OPENSSL, reason="run: apt-get install openssl")
VARIABLE = "EDGELSTM_KEY_PASSPHRASE"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a key and an artifact that is not signed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    write_new_keys(Path("key.pem"))
    shutil.copy(tiny_path, "pump.tflite")
    return tmp_path


def invoke(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=typed)


def done(*arguments: str, typed: str | None = None) -> str:
    result = invoke(*arguments, typed=typed)
    assert result.exit_code == 0, result.output
    return result.output


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


def refusal(*arguments: str) -> str:
    """The one sentence with which a command ends; it may change no file."""
    before = files()
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert files() == before
    return line.removeprefix("Error: ")


def fingerprint(name: str = "key.pub.pem") -> str:
    return str(PublicKey.read(Path(name)))


# Signing


def test_an_artifact_is_signed_in_its_place() -> None:
    before = Path("pump.tflite").stat().st_size
    said = done("sign", "pump.tflite", "--key", "key.pem")
    assert said == f"Signed pump.tflite with the key {fingerprint()}.\n"
    assert Path("pump.tflite").stat().st_size > before
    once = files()
    assert done("sign", "pump.tflite", "--key", "key.pem") == said
    assert files() == once


def test_a_signed_copy(tiny_path: Path) -> None:
    done("sign", "pump.tflite", "--key", "key.pem", "-o", "signed.tflite")
    assert Path("pump.tflite").read_bytes() == tiny_path.read_bytes()
    assert "exists already; use --force" in refusal(
        "sign", "pump.tflite", "--key", "key.pem", "-o", "signed.tflite"
    )
    done("sign", "pump.tflite", "--key", "key.pem", "-o", "signed.tflite", "--force")
    assert "does not end in .tflite" in refusal(
        "sign", "pump.tflite", "--key", "key.pem", "-o", "signed.txt"
    )
    assert "does not exist" in refusal(
        "sign", "pump.tflite", "--key", "key.pem", "-o", "no/signed.tflite"
    )


def test_a_link_stays_a_link() -> None:
    Path("latest.tflite").symlink_to("pump.tflite")
    assert "Signed latest.tflite" in done("sign", "latest.tflite", "--key", "key.pem")
    assert Path("latest.tflite").is_symlink()
    done("verify", "pump.tflite", "--public-key", "key.pub.pem")


def test_another_signature_takes_its_place() -> None:
    write_new_keys(Path("new.pem"))
    done("sign", "pump.tflite", "--key", "key.pem")
    said = done("sign", "pump.tflite", "--key", "new.pem")
    new, old = fingerprint("new.pub.pem"), fingerprint()
    assert said == f"Signed pump.tflite with the key {new}, no longer with {old}.\n"
    done("verify", "pump.tflite", "--public-key", "new.pub.pem")
    assert invoke("verify", "pump.tflite", "--public-key", "key.pub.pem").exit_code == 1


def test_what_sign_refuses(tiny_path: Path) -> None:
    sign = ("sign", "pump.tflite", "--key")
    assert "cannot be read: No such file" in refusal("sign", "gone.tflite", "--key", "key.pem")
    assert (
        refusal(*sign, "gone.pem") == "The key gone.pem cannot be read: No such file or directory."
    )
    assert "cannot be read: Is a directory" in refusal(*sign, ".")
    assert "is a public key, and only the private one signs" in refusal(*sign, "key.pub.pem")
    Path("junk.pem").write_text("junk")
    assert "is not the PEM file of a private key" in refusal(*sign, "junk.pem")
    shutil.copy("key.pem", "model.tflite")
    assert "is not an edgelstm artifact" in refusal("sign", "model.tflite", "--key", "key.pem")


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed448"])
def test_keys_of_other_kinds(kind: str) -> None:
    made: dict[str, Callable[[], Any]] = {
        "rsa": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505  # it is refused
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ed448": ed448.Ed448PrivateKey.generate,
    }
    key = made[kind]()
    for form in (PrivateFormat.PKCS8, *([PrivateFormat.TraditionalOpenSSL] * (kind == "rsa"))):
        Path("other.pem").write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
        Path("other.pem").chmod(0o600)
        message = refusal("sign", "pump.tflite", "--key", "other.pem")
        assert message.startswith("other.pem is not an Ed25519 private key, the only kind")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Path("other.pub.pem").write_bytes(public)
    message = refusal("verify", "pump.tflite", "--public-key", "other.pub.pem")
    assert message.startswith("other.pub.pem is not an Ed25519 public key, the only kind")


def test_a_key_that_others_can_read() -> None:
    for mode, warned in ((0o600, False), (0o400, False), (0o640, True), (0o604, True)):
        Path("key.pem").chmod(mode)
        result = invoke("sign", "pump.tflite", "--key", "key.pem")
        assert result.exit_code == 0
        assert ("Warning: others can read key.pem" in result.stderr) is warned, oct(mode)
        assert "Warning" not in result.stdout


def test_usage() -> None:
    for arguments, says in (
        ((), "Missing argument 'ARTIFACT'"),
        (("pump.tflite",), "Missing option '--key'; --new-key makes one"),
        (("pump.tflite", "--key", "key.pem", "--passphrase"), "--passphrase is for --new-key"),
        (("pump.tflite", "--new-key", "new.pem"), "does nothing else"),
        (("--new-key", "new.pem", "--key", "key.pem"), "does nothing else"),
    ):
        result = invoke("sign", *arguments)
        assert result.exit_code == 2
        assert says in result.stderr
    assert not Path("new.pem").exists()


# Keys


def test_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        said = done("sign", "--new-key", "mine.pem")
    finally:
        os.umask(before)
    assert said == (
        "Wrote mine.pem, which signs: keep it secret, and a copy of it safe.\n"
        "Wrote mine.pub.pem, which devices get.\n"
        f"They are the key {fingerprint('mine.pub.pem')}.\n"
    )
    assert Path("mine.pem").stat().st_mode & 0o777 == 0o600
    assert Path("mine.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert PrivateKey.read(Path("mine.pem")).public == PublicKey.read(Path("mine.pub.pem"))
    done("sign", "--new-key", "other")
    assert Path("other.pub.pem").exists()


def test_a_key_is_never_overwritten() -> None:
    assert "exists already, and a key is never overwritten" in refusal(
        "sign", "--new-key", "key.pem"
    )
    Path("lost.pub.pem").touch()
    assert "lost.pub.pem exists already" in refusal("sign", "--new-key", "lost.pem")
    assert "does not exist" in refusal("sign", "--new-key", "no/key.pem")


def test_a_key_with_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "open sesame\n"
    said = done("sign", "--new-key", "locked.pem", "--passphrase", typed=typed * 2)
    assert "sesame" not in said
    assert Path("locked.pem").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    sign = ("sign", "pump.tflite", "--key", "locked.pem")
    before = files()
    wrong = invoke(*sign, typed="wrong\n")
    assert wrong.exit_code == 2
    assert "locked.pem has another passphrase" in wrong.stderr
    assert "The key has a passphrase: type it, or put it into the variable" in invoke(*sign).stderr
    nobody = invoke("sign", "--new-key", "other.pem", "--passphrase")
    assert nobody.exit_code == 2
    assert "The key is to have a passphrase: type it, or put it into the" in nobody.stderr
    assert files() == before
    done(*sign, typed=typed)
    monkeypatch.setenv(VARIABLE, "wrong")
    assert "has another passphrase" in refusal(*sign)
    monkeypatch.setenv(VARIABLE, "")
    assert "has another passphrase" in refusal(*sign)
    monkeypatch.setenv(VARIABLE, "open sesame")
    done(*sign)
    done("sign", "pump.tflite", "--key", "key.pem")  # which has none
    done("sign", "--new-key", "another.pem")
    assert "ENCRYPTED" in Path("another.pem").read_text()


def test_what_is_no_public_key(tmp_path: Path) -> None:
    pem = Path("key.pub.pem").read_text()
    body = pem.splitlines()[1]
    locked = PrivateKey.generate()._key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    for text, says in (
        ("", "is not the PEM file of one public key"),
        (pem * 2, "is not the PEM file of one public key"),
        (pem.replace("PUBLIC KEY", "CERTIFICATE"), "is not the PEM file of one public key"),
        (pem.replace(body, body[:-4]), "is not an Ed25519 public key"),
        (pem.replace(body, "!" + body[1:]), "is not an Ed25519 public key"),
        (pem.replace(body, "AAAA" + body), "is not an Ed25519 public key"),
        (Path("key.pem").read_text(), "is a private key, and here the public one is needed"),
        (pem + Path("key.pem").read_text(), "is a private key"),
        (locked.decode(), "is a private key"),
    ):
        Path("x.pem").write_text(text)
        assert f"x.pem {says}" in refusal("verify", "pump.tflite", "--public-key", "x.pem")
    Path("x.pem").write_text(f"Key of Ann\r\n{pem}".replace("\n", "\r\n"))
    assert PublicKey.read(Path("x.pem")) == PublicKey.read(Path("key.pub.pem"))
    assert PublicKey.read(Path("key.pub.pem")).pem == pem


# Verifying


def test_verify_says_whether_it_holds(tiny_path: Path) -> None:
    done("sign", "pump.tflite", "--key", "key.pem")
    said = done("verify", "pump.tflite", "--public-key", "key.pub.pem")
    assert "It is signed with a key of key.pub.pem.\n" in said
    assert "golden runs hold" in said
    told = json.loads(done("verify", "pump.tflite", "--public-key", "key.pub.pem", "--json"))
    assert (told["holds"], told["signed"]) == (True, True)
    assert "signed" not in json.loads(done("verify", "pump.tflite", "--json"))
    assert "signed" not in done("verify", "pump.tflite")
    write_new_keys(Path("new.pem"))
    either = ("--public-key", "new.pub.pem", "--public-key", "key.pub.pem")
    assert "with a key of new.pub.pem, key.pub.pem." in done("verify", "pump.tflite", *either)


def test_verify_ends_with_1_when_it_does_not_hold(tiny_path: Path) -> None:
    verify = ("verify", "pump.tflite", "--public-key", "key.pub.pem")

    def fails(says: str) -> None:
        result = invoke(*verify)
        assert (result.exit_code, result.stdout) == (1, "")
        assert says in result.stderr
        assert len(result.stderr.splitlines()) == 1
        told = invoke(*verify, "--json")
        assert told.exit_code == 1
        answer = json.loads(told.stdout)
        assert answer["holds"] is False
        assert says in answer["refused"]

    fails("pump.tflite is not signed")
    done("sign", "pump.tflite", "--key", "key.pem")
    signed = bytearray(Path("pump.tflite").read_bytes())
    signed[3000] ^= 1
    Path("pump.tflite").write_bytes(signed)
    fails("was changed since")
    Path("pump.tflite").write_bytes(signed[:7000])
    fails("pump.tflite is not signed, or was changed since")
    shutil.copy(tiny_path, "pump.tflite")
    write_new_keys(Path("other.pem"))
    done("sign", "pump.tflite", "--key", "other.pem")
    fails("is not trusted here: key.pub.pem has")


def test_verify_ends_with_2_when_it_is_given_something_else() -> None:
    key = ("--public-key", "key.pub.pem")
    assert "cannot be read" in refusal("verify", "gone.tflite", *key)
    assert "is not an edgelstm artifact" in refusal("verify", "key.pem", *key)
    done("sign", "pump.tflite", "--key", "key.pem")
    assert "The key gone.pem cannot be read" in refusal(
        "verify", "pump.tflite", "--public-key", "gone.pem"
    )
    assert "is a private key, and here the public one is needed" in refusal(
        "verify", "pump.tflite", "--public-key", "key.pem"
    )


# What the others say of it


def test_inspect_says_who_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\nsigned " not in done("inspect", "pump.tflite")
    done("sign", "pump.tflite", "--key", "key.pem")
    assert f"\nsigned     with the key {fingerprint()}; whether" in done("inspect", "pump.tflite")
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    line = done("inspect", "pump.tflite").splitlines()[-1]
    assert line.startswith(f"signed     with the key {fingerprint()}, it says; not checked. ")
    assert "edgelstm[sign]" in line


def test_inspect_says_that_it_was_changed(tiny_path: Path) -> None:
    done("sign", "pump.tflite", "--key", "key.pem")
    with zipfile.ZipFile("pump.tflite") as archive:
        stored = archive.read(SIGNATURE)
    from edgelstm.signed_file import compose, divide

    _, signature = divide(Path("pump.tflite").read_bytes())
    other = tiny_path.with_name("tiny_float.tflite").read_bytes()
    Path("pump.tflite").write_bytes(compose(divide(other)[0], signature))
    assert "\nsigned     NO: pump.tflite is not what the key" in done("inspect", "pump.tflite")
    assert stored


def test_calibrating_into_a_signed_artifact_says_that_it_is_signed_no_more() -> None:
    rows = "".join(f"{60 * i},{20 + i % 7},{-5 - i % 3}\n" for i in range(400))
    Path("pump.csv").write_text("time,flow,level\n" + rows)
    calibrate = ("calibrate", "pump.tflite", "pump.csv", "--into")
    result = invoke(*calibrate)
    if result.exit_code != 0:
        pytest.fail(result.output)
    assert "signed" not in result.stderr
    done("sign", "pump.tflite", "--key", "key.pem")
    result = invoke(*calibrate)
    assert "Warning: pump.tflite is no longer signed; sign it again." in result.stderr
    assert invoke("verify", "pump.tflite", "--public-key", "key.pub.pem").exit_code == 1


# Other tools


@needs_openssl
def test_openssl_reads_our_keys_and_we_read_its() -> None:
    def openssl(*arguments: str) -> bytes:
        return subprocess.run([OPENSSL, *arguments], capture_output=True, check=True).stdout

    assert openssl("pkey", "-in", "key.pem", "-pubout").decode() == Path("key.pub.pem").read_text()
    openssl("genpkey", "-algorithm", "ed25519", "-out", "theirs.pem")
    openssl("pkey", "-in", "theirs.pem", "-pubout", "-out", "theirs.pub.pem")
    done("sign", "pump.tflite", "--key", "theirs.pem")
    done("verify", "pump.tflite", "--public-key", "theirs.pub.pem")
    der = openssl("pkey", "-pubin", "-in", "theirs.pub.pem", "-outform", "DER")
    assert PublicKey.from_der(der) == PublicKey.read(Path("theirs.pub.pem"))
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", "locked.pem")
    done("sign", "pump.tflite", "--key", "locked.pem", typed="x\n")


@needs_openssl
@pytest.mark.skipif(shutil.which("unzip") is None, reason="run: apt-get install unzip")
def test_the_documented_check_without_edgelstm() -> None:
    """The commands of docs/signing.md as they stand there."""
    found = re.search(r"```sh\n(.*?pkeyutl.*?)```", DOCS.read_text(), re.DOTALL)
    assert found

    def check() -> subprocess.CompletedProcess[str]:
        shell = ["/bin/sh", "-c", found[1]]
        return subprocess.run(shell, capture_output=True, text=True, check=False)

    done("sign", "pump.tflite", "--key", "key.pem")
    good = check()
    assert good.stdout.endswith("Signature Verified Successfully\n"), good.stderr
    data = bytearray(Path("pump.tflite").read_bytes())
    data[4000] ^= 1
    Path("pump.tflite").write_bytes(data)
    bad = check()
    assert "Signature Verification Failure" in bad.stdout + bad.stderr
    assert bad.returncode != 0
