"""What the agent is given in tests of it: wheels that are made here, and a runtime of them."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from edgelstm_devices.agent.context import Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.store import missing, receive

PIP_WHEEL = "pip-0-py3-none-any.whl"
OWN_WHEEL = "edgelstm-9.0-py3-none-any.whl"


class Sender(Context):
    """Sends a body."""

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)

    def body(self) -> BinaryIO:
        return self._body


def a_wheel(name: str, version: str, files: dict[str, bytes], script: str = "") -> bytes:
    """A wheel of pure Python; `script` is what its command calls, such as "module:main"."""
    info = f"{name}-{version}.dist-info"
    every = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        every[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {script}\n".encode()
    record = "".join(f"{path},,\n" for path in [*every, f"{info}/RECORD"])
    return _zip({**every, f"{info}/RECORD": record.encode()})


def own_wheel(program: str, files: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """A wheel called edgelstm whose command is a program of one's own with a function `main`."""
    every = {"edgelstm_stand_in.py": program.encode(), **files}
    return a_wheel("edgelstm", "9.0", every, "edgelstm_stand_in:main")


def small_disk(folder: Path, megabytes: int) -> list[str]:
    """Runs what follows where `folder` is a disk of that size, which goes with the process."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$1" && shift && exec "$@"'
    return ["unshare", *rights, "--mount", "sh", "-c", mount, "sh", str(folder)]


def pip_wheel() -> bytes:
    """The pip that is installed here; it is a pip wheel in all that matters."""
    files = distribution("pip").files or []
    paths = [path for path in files if path.parts[0] == "pip" and path.suffix != ".pyc"]
    return _zip({str(path): Path(str(path.locate())).read_bytes() for path in paths})


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # with no time of its own
    return buffer.getvalue()


def put(layout: Layout, content: bytes) -> dict[str, Any]:
    """Sends a file, or what it lacks."""
    file: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    for lacking in missing(Context(), layout=layout, files=[file]):
        have = lacking["have"]
        receive(Sender(content[have:]), layout=layout, offset=have, **file)
    return file


def a_runtime(
    layout: Layout, wheels: dict[str, bytes], python: str = "3.11", **fields: Any
) -> dict[str, Any]:
    """A `RuntimeSpec` of wheels that are sent; `fields` are in the place of its own."""
    stored = {name: put(layout, content) for name, content in wheels.items()}
    return {
        "id": f"tiny-1.0-py{python}-x86_64-3f2a9c1b",
        "python": python,
        "architecture": "x86_64",
        "wheels": stored,
        "requirements": ["edgelstm==9.0"],
        "installer": PIP_WHEEL,
        "offline": True,
        **fields,
    }


def a_release(
    layout: Layout, runtime: dict[str, Any], files: dict[str, bytes], **fields: Any
) -> dict[str, Any]:
    """A `ReleaseSpec` of files that are sent; those that end in .tflite are its artifacts."""
    return {
        "service": "pump",
        "id": "20261121-053012-3f2a9c1b",
        "digest": "0" * 64,
        "made": "2026-11-21T05:30:12+00:00",
        "by": "ann@laptop",
        "edgelstm": "9.0",
        "files": {name: put(layout, content) for name, content in files.items()},
        "configuration": "pump.toml",
        "artifacts": [name for name in files if name.endswith(".tflite")],
        "runtime": runtime,
        "unit": "[Service]\nExecStart=@RELEASE@/runtime/bin/edgelstm run @RELEASE@/pump.toml\n",
        "expect_readings": True,
        "schema": 1,
        **fields,
    }
