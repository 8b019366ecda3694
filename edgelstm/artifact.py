"""The artifact: one `.tflite` file that describes itself.

It is a stock flatbuffer with a ZIP archive appended, as TFLite's own metadata does it, so any
TFLite tool opens it and `unzip -l` lists what it carries:

- `edgelstm/manifest.json`: see `edgelstm.manifest.Manifest`,
- `edgelstm/golden.npz`: `x`, readings in physical units, float32 (steps, channels), and `y`, the
  raw outputs that the quantised model gave for them from zero states, (steps, targets);
- `edgelstm/cpu.tflite`: of a model compiled for an Edge TPU, the same model for the CPU;
- `edgelstm/signature.json`: of a signed one, see `edgelstm.signed_file`. What is read and written
  again has none.

The archive's comment is the SHA-256 of all the bytes before it, so that not one bit of the file can
change unnoticed.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import ArtifactError
from edgelstm.files import atomic_path, check_output
from edgelstm.manifest import Manifest

MANIFEST = "edgelstm/manifest.json"
GOLDEN = "edgelstm/golden.npz"
CPU = "edgelstm/cpu.tflite"
SIGNATURE = "edgelstm/signature.json"
_LARGEST_FILE = 2**31
"""Bytes: a flatbuffer's offsets reach no further."""
_SEAL = "sha256:"
SEAL_BYTES = len(_SEAL) + 64

# A fixed time stamp, so that the same content gives the same bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
# All that zipfile and numpy raise on damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class Golden:
    """Golden vectors: the self-test that an artifact carries.

    Attributes:
        x: readings in physical units, float32 (steps, channels).
        y: the raw outputs they gave from zero states, (steps, targets), in the output's dtype.
    """

    x: NDArray[np.float32]
    y: NDArray[Any]


@dataclass(frozen=True)
class Artifact:
    """A converted model with everything that is needed to run it.

    Attributes:
        manifest: what it says about itself.
        flatbuffer: the TFLite model.
        golden: its self-test.
        cpu: of a compiled model, the TFLite model for the CPU that it was compiled from: the same
            states, tensor for tensor.
    """

    manifest: Manifest
    flatbuffer: bytes
    golden: Golden
    cpu: bytes | None = None

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OutputExistsError: it exists and `force` is false.
            ConfigurationError: its folder does not exist or cannot be written.
            OSError: the disk fails or is full.
        """
        path = Path(path)
        check_output(path, force=force)
        buffer = io.BytesIO()
        np.savez(buffer, x=self.golden.x, y=self.golden.y)
        entries = [(MANIFEST, self.manifest.to_json().encode()), (GOLDEN, buffer.getvalue())]
        if self.cpu is not None:
            entries.append((CPU, self.cpu))
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.flatbuffer)
            with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
                for name, data in entries:
                    archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data, zipfile.ZIP_DEFLATED)
                archive.comment = bytes(SEAL_BYTES)
            unsealed = temporary.read_bytes()[:-SEAL_BYTES]
            temporary.write_bytes(unsealed + seal(unsealed))

    @classmethod
    def read(cls, path: str | Path) -> Artifact:
        """Reads and checks a file; the flatbuffer's hash is checked before anything runs it.

        Raises:
            ArtifactError: the file cannot be read, is no artifact, is damaged, or is of a schema
                version that this edgelstm does not know.
        """
        return cls.from_bytes(read_bytes(path), path)

    @classmethod
    def from_bytes(cls, data: bytes, path: str | Path) -> Artifact:
        """Checks what was read from a file; `path` is for the messages. Raises what `read` does."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                text, packed = archive.read(MANIFEST), archive.read(GOLDEN)
                cpu = archive.read(CPU) if CPU in archive.namelist() else None
            with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
                golden = Golden(arrays["x"], arrays["y"])
        except _DAMAGE as error:
            raise ArtifactError(_what_is_wrong(path, data)) from error
        try:
            manifest = Manifest.from_json(text)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
        flatbuffer = data[: manifest.flatbuffer_bytes]
        if (
            data[-SEAL_BYTES:] != seal(data[:-SEAL_BYTES])
            or hashlib.sha256(flatbuffer).hexdigest() != manifest.sha256
            or (None if cpu is None else hashlib.sha256(cpu).hexdigest()) != manifest.cpu_sha256
        ):
            raise ArtifactError(
                f"{path} is damaged: bytes have changed since it was written. Copy it again from "
                "where it was made."
            )
        if not _fit(golden, manifest):
            raise ArtifactError(
                f"{path} has golden vectors that do not fit its manifest; make it again with "
                "'edgelstm quantize'."
            )
        return cls(manifest, flatbuffer, golden, cpu)


def _fit(golden: Golden, manifest: Manifest) -> bool:
    """Whether there are values for each channel and target, and as many runs as readings give."""
    if golden.x.ndim != 2:
        return False
    runs = readings = len(golden.x)
    if manifest.window:
        runs = max(0, (readings - manifest.window) // manifest.hop + 1)
    return (golden.x.shape, golden.y.shape) == (
        (readings, len(manifest.channels)),
        (runs, len(manifest.targets)),
    )


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file that may be a model.

    Raises:
        ArtifactError: it cannot be read, is a device, which may never end, or is larger than a
            TFLite model can be.
    """
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                raise ArtifactError(f"{path} is a device; give the path of a .tflite file.")
            if status.st_size > _LARGEST_FILE:
                raise ArtifactError(
                    f"{path} has {status.st_size:,} bytes, more than a TFLite model can have; give "
                    "the path of a .tflite file."
                )
            return file.read()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}.") from error


def seal(data: bytes) -> bytes:
    """What ends a file, `SEAL_BYTES` long; `data` is all before it."""
    return (_SEAL + hashlib.sha256(data).hexdigest()).encode()


def _what_is_wrong(path: str | Path, data: bytes) -> str:
    if data[4:8] == b"TFL3":
        return (
            f"{path} is a TFLite model without a readable edgelstm manifest: it is damaged, or "
            "another tool made it. Make it with 'edgelstm quantize model.keras'."
        )
    if data[:2] == b"PK" or data[:4] == b"\x89HDF":
        return f"{path} is not an artifact but looks like a Keras model: run 'edgelstm quantize'."
    return f"{path} is not an edgelstm artifact (a .tflite file made by 'edgelstm quantize')."
