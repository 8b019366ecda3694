"""Signed artifacts: who made a file, and whether a device runs it.

A device with public keys runs what the owner of one of them signed, byte for byte, and nothing
else. `edgelstm.signed_file` has the format.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.artifact import Artifact
from edgelstm.errors import SignatureError
from edgelstm.keys import PrivateKey, PublicKey
from edgelstm.signed_file import (
    Content,
    LayoutError,
    Signature,
    UnknownSignatureError,
    compose,
    divide,
)

TRUSTED_FOLDER = Path("/etc/edgelstm/trusted")
"""The public keys of a device: every *.pem in it."""

_OWN_FOLDER = Path(".config/edgelstm/trusted")  # in the home, for a user's own services


def sign(data: bytes, key: PrivateKey, path: str | Path) -> bytes:
    """An artifact's file with a signature, which takes the place of one that it may have.

    Args:
        data: the file.
        key: that signs.
        path: for the messages.

    Raises:
        ArtifactError: it is no artifact, is damaged, or is packed as edgelstm packs none.
        SignatureError: it was changed since it was signed.
        MissingDependencyError: the package cryptography is not installed.
    """
    artifact = Artifact.from_bytes(data, path)
    try:
        content, before = divide(data)
    except LayoutError as error:
        raise SignatureError(
            f"{path} is not packed as 'edgelstm quantize' packs it ({error}); make it again."
        ) from error
    except UnknownSignatureError as error:
        raise _unknown(path, error) from error
    if content.model_bytes != artifact.manifest.flatbuffer_bytes:
        raise SignatureError(
            f"{path} has bytes between its model and its archive; make it again with 'edgelstm "
            "quantize'."
        )
    if before is not None:
        _require(content, before, path)
    return compose(content, Signature(key.public, key.sign(content.message())))


def signed_by(data: bytes) -> PublicKey | None:
    """The key that a file says it is signed with, which anybody can claim; None for none.

    Args:
        data: a file, whatever it is.
    """
    try:
        _, signature = divide(data)
    except (LayoutError, UnknownSignatureError):
        return None
    return signature.key if signature else None


def check_signature(data: bytes, path: str | Path) -> PublicKey:
    """The key that a file is signed with, after a check that it is what was signed.

    Anybody can make a key: whether this one is to be trusted is another question.

    Args:
        data: the file.
        path: for the messages.

    Raises:
        SignatureError: it is not signed, or was changed since.
        ArtifactError: it is no TFLite file at all.
        MissingDependencyError: the package cryptography is not installed.
    """
    content, signature = _divide(data, path)
    _require(content, signature, path)
    return signature.key


@dataclass(frozen=True)
class KeyRing:
    """Public keys that were put at one place.

    Attributes:
        place: where, for people.
        keys: at least one.
    """

    place: str
    keys: tuple[PublicKey, ...]


@dataclass(frozen=True)
class TrustedKeys:
    """Whose artifacts may run: everybody's, as long as there is no key at any place.

    Each place that has keys must have the one that signed. So a configuration can narrow what the
    device allows, and cannot widen it.

    Attributes:
        rings: the places that have keys.
    """

    rings: tuple[KeyRing, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any key, so that not everything may run."""
        return bool(self.rings)

    @classmethod
    def of(cls, files: Sequence[Path], place: str = "") -> TrustedKeys:
        """The keys in some files.

        Args:
            files: PEM files of one public key each.
            place: what messages call them; their names by default.

        Raises:
            SignatureError: one cannot be used.
        """
        if not files:
            return cls()
        place = place or ", ".join(map(str, files))
        return cls((KeyRing(place, tuple(PublicKey.read(file) for file in files)),))

    @classmethod
    def of_device(
        cls, configured: Sequence[Path] = (), environ: Mapping[str, str] = os.environ
    ) -> TrustedKeys:
        """The keys of this device, of the user and of a configuration.

        Args:
            configured: the files that a configuration names.
            environ: has HOME.

        Raises:
            SignatureError: one cannot be used: then nothing may run, for it may be the one that
                would have refused it.
        """
        folders = [TRUSTED_FOLDER]
        home = Path(environ.get("HOME", ""))
        if home.is_absolute():
            folders.append(home / _OWN_FOLDER)
        rings = [
            ring
            for folder in folders
            for ring in cls.of(
                _keys_in(folder, own=folder is not TRUSTED_FOLDER), str(folder)
            ).rings
        ]
        return cls((*rings, *cls.of(configured, "public_keys of the configuration").rings))

    def check(self, data: bytes, path: str | Path) -> None:
        """Refuses a file that none of them signed; does nothing when there are none.

        Args:
            data: the file, which must be loaded from these very bytes.
            path: for the messages.

        Raises:
            SignatureError: it is not signed, by another, or was changed since.
            ArtifactError: it is no TFLite file at all.
            MissingDependencyError: the package cryptography is not installed.
        """
        if not self:
            return
        content, signature = _divide(data, path)
        for ring in self.rings:
            if signature.key not in ring.keys:
                raise SignatureError(
                    f"{path} is signed by the key {signature.key}, which is not trusted here: "
                    f"{ring.place} has {', '.join(map(str, ring.keys))}. Sign it with one of these."
                )
        _require(content, signature, path)


def _divide(data: bytes, path: str | Path) -> tuple[Content, Signature]:
    """What of a file is signed, and the signature that it must have."""
    try:
        content, signature = divide(data)
    except LayoutError as error:
        if data[4:8] != b"TFL3":
            Artifact.from_bytes(data, path)  # which says what else it may be
        raise SignatureError(
            f"{path} is not signed, or was changed since ({error}): sign it with 'edgelstm sign', "
            "or copy it again from where it was signed."
        ) from error
    except UnknownSignatureError as error:
        raise _unknown(path, error) from error
    if signature is None:
        raise SignatureError(f"{path} is not signed: sign it with 'edgelstm sign'.")
    return content, signature


def _require(content: Content, signature: Signature, path: str | Path) -> None:
    if not signature.key.verify(content.message(), signature.value):
        raise SignatureError(
            f"{path} is not what the key {signature.key} signed: it was changed since, or has the "
            "signature of another file. Copy it again from where it was signed."
        )


def _unknown(path: str | Path, error: UnknownSignatureError) -> SignatureError:
    return SignatureError(
        f"{path} is signed in a way that this edgelstm does not know ({error}): update edgelstm."
    )


def _keys_in(folder: Path, *, own: bool) -> list[Path]:
    """The files of keys in a folder, sorted; none when it is not there.

    Args:
        folder: that may be there.
        own: whether it is in the user's home, which a service may be kept out of
            (ProtectHome=): then it is not there.

    Raises:
        SignatureError: it cannot be looked into.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".pem")
    except FileNotFoundError:
        if not folder.is_symlink():
            return []
        raise SignatureError(
            f"{folder} leads nowhere, so whose artifacts may run cannot be told: mend it or remove "
            "it."
        ) from None
    except OSError as error:
        if own and isinstance(error, PermissionError):
            return []
        raise SignatureError(
            f"{folder} cannot be read, so whose artifacts may run cannot be told: {error.strerror}."
        ) from error
