"""A model's file, whoever made it: an artifact, or a plain `.tflite`."""

from __future__ import annotations

from pathlib import Path

from edgelstm.artifact import GOLDEN, MANIFEST, Artifact, read_bytes
from edgelstm.signing import TrustedKeys


def is_plain(data: bytes) -> bool:
    """Whether a file is a TFLite model without anything of edgelstm's, damaged or not.

    A file that has lost a part of its manifest is none: it would run without its scaling.
    """
    return data[4:8] == b"TFL3" and not any(n.encode() in data for n in (MANIFEST, GOLDEN))


def read_model(path: str | Path, trusted: TrustedKeys | None = None) -> Artifact:
    """Reads an artifact, or a TFLite model of another tool as if it were one.

    Args:
        path: of the file, which is read once: what is checked is what is used.
        trusted: whose artifacts are accepted; None for everybody's.

    Raises:
        SignatureError: none of those signed it, or it was changed since.
        MissingDependencyError: there are such keys, and no package cryptography.
        ArtifactError: the file cannot be read, is damaged or is neither; or it is a model that
            cannot be stepped, and the message says what is missing.
    """
    data = read_bytes(path)
    if trusted:
        trusted.check(data, path)
    if not is_plain(data):
        return Artifact.from_bytes(data, path)
    from edgelstm.plain import plain_from_bytes  # few files are, and it takes a while to import

    return plain_from_bytes(data, path)
