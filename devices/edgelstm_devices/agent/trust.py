"""Whose artifacts the device runs: public keys, each a file in a folder that `edgelstm run` reads.

It is /etc/edgelstm/trusted, or ~/.config/edgelstm/trusted for one user's services. A key counts
for every service of the device, or of the user, from its next start or reload on. So none is put
there that would keep what runs now from starting again: after a deployment that failed, say, or a
power cut.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from .context import AgentError, Context
from .layout import Layout

_DER_START = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: of every Ed25519 key
_DER_BYTES = 44
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\s(.*?)-----END PUBLIC KEY-----", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_SUFFIX = ".pem"


def trusted_folder(layout: Layout) -> Path:
    """Where the keys are: beside systemd's own folder in /etc, or in ~/.config."""
    return layout.units.parents[1] / "edgelstm" / "trusted"


def trust(_context: Context, *, layout: Layout, keys: Mapping[str, str]) -> dict[str, Any]:
    """Puts public keys where `edgelstm run` finds them; a key that is there already stays.

    Args:
        _context: the caller.
        layout: the installation.
        keys: the texts of PEM files, by the names that they are to have.

    Returns:
        "folder", and "added" and "present": the names of the files.

    Raises:
        AgentError: one is no Ed25519 public key, or another one has its name, or a service runs an
            artifact that is signed with none of them; then none is put there.
    """
    folder = trusted_folder(layout)
    there = {_fingerprint(text, str(folder / n)): n for n, text in _texts(folder).items()}
    added: dict[str, str] = {}
    present = []
    for name, text in keys.items():
        file = name if name.endswith(_SUFFIX) else name + _SUFFIX
        if not _NAME.match(file):
            raise AgentError(
                f"{name!r} is no name of a key: letters, digits, '_', '.' and '-' will do."
            )
        fingerprint = _fingerprint(text, name)
        if fingerprint in there:
            present.append(there[fingerprint])
            continue
        if file in added or (folder / file).exists():
            raise AgentError(
                f"{folder / file} is another key, which is trusted already; give this one another "
                "name."
            )
        added[file] = text
        there[fingerprint] = file
    if added:
        _require_signed(layout, there)
    try:
        if added:
            _make(folder)
        for file, text in added.items():
            _write(folder / file, text)
    except OSError as error:
        raise AgentError(f"No key can be put into {folder}: {error.strerror}.") from error
    return {"folder": str(folder), "added": sorted(added), "present": sorted(present)}


def untrust(_context: Context, *, layout: Layout, names: Sequence[str]) -> dict[str, Any]:
    """Takes keys away, by the names of their files; with the last one everything may run again.

    Args:
        _context: the caller.
        layout: the installation.
        names: of the files, with or without .pem.

    Returns:
        "removed": the names of those that were there.

    Raises:
        AgentError: one cannot be removed.
    """
    folder = trusted_folder(layout)
    removed = []
    for name in names:
        file = name if name.endswith(_SUFFIX) else name + _SUFFIX
        if not _NAME.match(file):
            raise AgentError(f"{name!r} is no name of a key.")
        try:
            (folder / file).unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AgentError(f"{folder / file} cannot be removed: {error.strerror}.") from error
        removed.append(file)
    return {"removed": removed}


def trusted_keys(_context: Context, *, layout: Layout) -> list[dict[str, str]]:
    """The keys that are there: of each its "file", and its "fingerprint", "" when it is no key.

    Raises:
        AgentError: the folder cannot be read.
    """
    found = []
    for name, text in _texts(trusted_folder(layout)).items():
        try:
            fingerprint = _fingerprint(text, name)
        except AgentError:
            fingerprint = ""
        found.append({"file": name, "fingerprint": fingerprint})
    return found


def _require_signed(layout: Layout, keys: Container[str]) -> None:
    """Refuses keys with which a service would not start again.

    It looks at the key that each artifact names, which is enough to find a mistake; the service
    itself checks the signature.

    Args:
        layout: the installation.
        keys: fingerprints of those that are to be trusted.
    """
    for name in layout.names():
        service = layout.service(name)
        if not (current := service.current_release()):
            continue
        folder = service.release(current)
        try:
            spec = json.loads((folder / "release.json").read_text(encoding="utf-8"))
            artifacts = [str(artifact) for artifact in spec["artifacts"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AgentError(
                f"What {name} runs cannot be told, and it might not start again with this key: "
                f"{folder / 'release.json'} cannot be read; deploy it again first."
            ) from error
        for artifact in artifacts:
            if _signed_with(folder / artifact) not in keys:
                raise AgentError(
                    f"{name} runs {artifact}, which is not signed with a key that is trusted then, "
                    "and would not start again; deploy it signed first."
                )


def _signed_with(artifact: Path) -> str:
    """The fingerprint of the key that an artifact says it is signed with; "" for none."""
    try:
        with zipfile.ZipFile(artifact) as archive:
            fields = json.loads(archive.read("edgelstm/signature.json"))
        return hashlib.sha256(base64.b64decode(fields["key"])).hexdigest()
    except Exception:  # whatever zipfile and json raise on damaged bytes: it will not start
        return ""


def _texts(folder: Path) -> dict[str, str]:
    """The files of keys in a folder, sorted by name."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == _SUFFIX)
        return {path.name: path.read_text(errors="replace") for path in paths}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AgentError(f"{folder} cannot be read: {error.strerror}.") from error


def _fingerprint(text: str, name: str) -> str:
    """The SHA-256 of a key's DER, as `edgelstm sign` prints the beginning of it."""
    if "PRIVATE KEY" in text:
        raise AgentError(f"{name} is a private key, which no device may have; give the public one.")
    blocks = _PEM.findall(text)
    try:
        der = base64.b64decode("".join(blocks[0].split()), validate=True)
    except (IndexError, ValueError, binascii.Error):
        der = b""
    if len(blocks) != 1 or len(der) != _DER_BYTES or not der.startswith(_DER_START):
        raise AgentError(
            f"{name} is not the PEM file of one Ed25519 public key; 'edgelstm sign --new-key' "
            "makes one."
        )
    return hashlib.sha256(der).hexdigest()


def _make(folder: Path) -> None:
    """Makes a folder that everybody may look into, whatever the umask; those there stay."""
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)


def _write(path: Path, text: str) -> None:
    """Writes a file that everybody may read, whole or not at all."""
    # Not ending in .pem: half a key would keep every service from its start.
    descriptor, name = tempfile.mkstemp(prefix=".new-key-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
