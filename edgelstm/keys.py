"""Ed25519 keys: whose artifacts a device runs, and what signs them.

Public keys are read and written with the standard library alone: in a PEM file (RFC 7468) is the
key's DER (RFC 8410), which is the same twelve bytes for every Ed25519 key, then its 32 bytes.
Whatever computes with keys needs the package cryptography, which the extra `sign` brings.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgelstm.errors import MissingDependencyError, OutputExistsError, SignatureError
from edgelstm.files import atomic_path, check_output

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_DER_START = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4
_KEY_BYTES = 32
_LARGEST_FILE = 100_000  # bytes; an Ed25519 key has some hundred
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
_NEW = "'edgelstm sign --new-key key.pem' makes one"


@dataclass(frozen=True)
class PublicKey:
    """What a signature is checked with.

    Attributes:
        raw: the key, 32 bytes.
    """

    raw: bytes

    @property
    def der(self) -> bytes:
        """As a SubjectPublicKeyInfo, 44 bytes."""
        return _DER_START + self.raw

    @property
    def pem(self) -> str:
        """As the text of a PEM file."""
        body = base64.b64encode(self.der).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of its DER, 64 hexadecimal digits."""
        return hashlib.sha256(self.der).hexdigest()

    def __str__(self) -> str:
        """What messages call it: the beginning of its fingerprint."""
        return self.fingerprint[:16]

    @classmethod
    def from_der(cls, der: bytes) -> PublicKey | None:
        """The key that a SubjectPublicKeyInfo has; None when it is no Ed25519 key."""
        if len(der) != len(_DER_START) + _KEY_BYTES or not der.startswith(_DER_START):
            return None
        return cls(der[len(_DER_START) :])

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Reads a PEM file.

        Raises:
            SignatureError: it cannot be read, or is no Ed25519 public key.
        """
        blocks = _BLOCK.findall(_read(path).decode("utf-8", "replace"))
        kinds = [kind for kind, _ in blocks]
        if any("PRIVATE" in kind for kind in kinds):
            raise SignatureError(
                f"{path} is a private key, and here the public one is needed: give that, and keep "
                "the private one where artifacts are signed."
            )
        if kinds != ["PUBLIC KEY"]:
            raise SignatureError(
                f"{path} is not the PEM file of one public key; {_NEW}, and key.pub.pem with it."
            )
        try:
            key = cls.from_der(base64.b64decode("".join(blocks[0][1].split()), validate=True))
        except (binascii.Error, ValueError):
            key = None
        if key is None:
            raise SignatureError(
                f"{path} is not an Ed25519 public key, the only kind that signs artifacts; {_NEW}."
            )
        return key

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the key's owner signed this message.

        Args:
            message: any bytes.
            signature: 64 bytes.

        Raises:
            MissingDependencyError: the package cryptography is not installed.
        """
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise _missing() from error
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """What signs; it never shows itself.

    Args:
        key: of the package cryptography.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new one.

        Raises:
            MissingDependencyError: the package cryptography is not installed.
        """
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise _missing() from error
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path, ask: Callable[[], str] = str) -> PrivateKey:
        """Reads a PEM file (PKCS #8).

        Args:
            path: the file.
            ask: gives the passphrase; called only when the key has one.

        Raises:
            SignatureError: it cannot be read, is no Ed25519 private key, or has another passphrase.
            MissingDependencyError: the package cryptography is not installed.
        """
        try:
            from cryptography.exceptions import UnsupportedAlgorithm
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError as error:
            raise _missing() from error
        data = _read(path)
        if b"PUBLIC KEY-----" in data:
            raise SignatureError(
                f"{path} is a public key, and only the private one signs: give that."
            )
        passphrase = ask().encode() if b"-----BEGIN ENCRYPTED" in data else None
        try:
            key = load_pem_private_key(data, passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if passphrase is not None:
                raise SignatureError(
                    f"{path} has another passphrase, or is damaged; try again."
                ) from error
            raise SignatureError(f"{path} is not the PEM file of a private key; {_NEW}.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureError(
                f"{path} is not an Ed25519 private key, the only kind that signs artifacts; {_NEW}."
            )
        return cls(key)

    def write(self, path: Path, passphrase: str = "") -> None:
        """Writes a PEM file (PKCS #8) that nobody else may read; there must be none yet.

        Args:
            path: the file.
            passphrase: that whoever reads it must give; "" for none.

        Raises:
            OutputExistsError: there is such a file.
            OSError: the disk fails or is full.
        """
        from cryptography.hazmat.primitives.serialization import (
            BestAvailableEncryption,
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        locked = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        data = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise _exists(path) from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            path.unlink()
            raise

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes; the same for the same message."""
        return self._key.sign(message)


def public_path(private: Path) -> Path:
    """Where the public key of a private one is put: key.pub.pem beside key.pem."""
    return private.with_name(f"{private.name.removesuffix('.pem')}.pub.pem")


def write_new_keys(path: Path, passphrase: str = "") -> PublicKey:
    """Makes a private key, and its public key beside it.

    Args:
        path: of the private key.
        passphrase: see `PrivateKey.write`.

    Raises:
        OutputExistsError: one of the files exists; a key is never overwritten.
        ConfigurationError: their folder does not exist or cannot be written.
        MissingDependencyError: the package cryptography is not installed.
        OSError: the disk fails or is full.
    """
    beside = public_path(path)
    for each in (path, beside):
        if each.exists():
            raise _exists(each)
        check_output(each, force=False)
    key = PrivateKey.generate()
    key.write(path, passphrase)
    try:
        with atomic_path(beside) as temporary:
            temporary.write_text(key.public.pem, encoding="ascii")
    except BaseException:
        path.unlink()
        raise
    return key.public


def read_by_others(path: Path) -> bool:
    """Whether others than its owner may read a file."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise SignatureError(f"The key {path} cannot be read: {error.strerror}.") from error


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError(
        f"{path} exists already, and a key is never overwritten: choose another name."
    )


def _missing() -> MissingDependencyError:
    return MissingDependencyError(
        "Signatures need the package cryptography, which is not installed: "
        "pip install 'edgelstm[sign]'"
    )
