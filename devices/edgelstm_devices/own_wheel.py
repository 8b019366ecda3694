"""`own_wheel`: a wheel of the edgelstm that runs here, so that a device runs the very same.

It is made of the imported packages, whether they were installed or are a working copy, without a
network or a build tool. Its bytes depend on its content alone: nothing in it is compressed, for
one version of zlib compresses unlike another, and an equal release would not be known again.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

import edgelstm
from edgelstm.errors import DeploymentError
from edgelstm.files import atomic_path

PACKAGES = ("edgelstm", "edgelstm_bridge", "edgelstm_devices", "edgelstm_quantize")

# In METADATA: what pip and importlib.metadata ask for, and not the README.
_HEADERS = ("Summary", "License-Expression", "License-File", "Requires-Python")
_LISTS = ("Provides-Extra", "Requires-Dist")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP can say
_FILE = 0o100644 << 16

_WHEEL = """\
Wheel-Version: 1.0
Generator: edgelstm
Root-Is-Purelib: true
Tag: py3-none-any
"""


def own_wheel(folder: Path) -> Path:
    """Writes the wheel.

    Args:
        folder: that it is written into; a wheel of the same name there is replaced.

    Returns:
        The wheel, such as `edgelstm-0.1.0-py3-none-any.whl`.

    Raises:
        DeploymentError: edgelstm was never installed here, or a part of it is not there.
        OSError: it cannot be written.
    """
    path = folder / f"edgelstm-{edgelstm.__version__}-py3-none-any.whl"
    data = _pack()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def _pack() -> bytes:
    info = f"edgelstm-{edgelstm.__version__}.dist-info"
    record = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.create_system = 3  # Unix, wherever this runs: the mode counts
            entry.external_attr = _FILE
            archive.writestr(entry, data)

        for name, data in (*_files(), *_about(info)):
            add(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            record.append(f"{name},sha256={digest.decode()},{len(data)}\n")
        record.append(f"{info}/RECORD,,\n")
        add(f"{info}/RECORD", "".join(record).encode())
    return buffer.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    """What is in the packages, but what Python and editors leave there."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise DeploymentError(
                f"The package {package} is not there, so that no wheel of edgelstm can be made; "
                "install edgelstm again."
            )
        top = Path(spec.origin).parent
        for path in sorted(_walk(top, (top.resolve(),)), key=lambda p: p.relative_to(top).parts):
            yield str(PurePosixPath(package, *path.relative_to(top).parts)), path.read_bytes()


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """The files in a folder; those behind links, too, but not around in a circle."""
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            real = path.resolve()
            if real not in above:
                yield from _walk(path, (*above, real))
        elif entry.is_file() and not entry.name.endswith((".pyc", ".pyo", ".orig", "~")):
            yield path


def _about(info: str) -> Iterator[tuple[str, bytes]]:
    """The folder that says what the wheel is, but for RECORD."""
    try:
        installed = distribution("edgelstm")
    except PackageNotFoundError:
        raise DeploymentError(
            "edgelstm was never installed here, so that no wheel of it can be made; run: pip "
            "install -e ."
        ) from None
    yield f"{info}/METADATA", _metadata(installed).encode()
    yield f"{info}/WHEEL", _WHEEL.encode()
    lines = [
        f"{each.name} = {each.value}\n"
        for each in sorted(installed.entry_points)
        if each.group == "console_scripts"
    ]
    yield f"{info}/entry_points.txt", "".join(["[console_scripts]\n", *lines]).encode()
    for name in sorted(installed.metadata.get_all("License-File") or ()):
        text = installed.read_text(f"licenses/{name}")
        if text is None:
            raise DeploymentError(
                f"The licence {name} of edgelstm is missing here; install edgelstm again."
            )
        yield f"{info}/licenses/{name}", text.encode()


def _metadata(installed: Distribution) -> str:
    """METADATA, which an editable installation may have of an older version."""
    lines = ["Metadata-Version: 2.4", "Name: edgelstm", f"Version: {edgelstm.__version__}"]
    for header in _HEADERS:
        values = installed.metadata.get_all(header) or ()
        lines += [f"{header}: {' '.join(str(value).split())}" for value in values]
    for header in _LISTS:
        lines += [
            f"{header}: {value}" for value in sorted(installed.metadata.get_all(header) or ())
        ]
    return "\n".join(lines) + "\n"
