"""A folder that is a device to what the agent does with files, and what to deploy to it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO

from edgelstm_devices.agent.context import Context
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.store import receive

UNIT = "[Service]\nExecStart=@RELEASE@/runtime/bin/edgelstm run @RELEASE@/pump.toml\n"


class Caller(Context):
    """One who sends a body, hears events, and may be gone."""

    def __init__(self, body: bytes = b"", here: bool = True) -> None:
        self.events: list[dict[str, Any]] = []
        self.here, self._body = here, io.BytesIO(body)

    def event(self, **fields: Any) -> None:
        self.events.append(fields)

    def alive(self) -> bool:
        return self.here

    def body(self) -> BinaryIO:
        return self._body


def a_layout(folder: Path) -> Layout:
    environ = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run")}
    return Layout("user", folder / "edgelstm", environ)


def told(content: bytes) -> dict[str, Any]:
    """What is said of a file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def put(layout: Layout, content: bytes) -> dict[str, Any]:
    """Sends a file."""
    file = told(content)
    receive(Caller(content), layout=layout, offset=0, **file)
    return file


def a_spec(layout: Layout, number: int = 1, service: str = "pump") -> dict[str, Any]:
    """A release whose files are in the store, and whose runtime looks complete."""
    runtime = f"runtime-{number % 2}"
    folder = layout.runtimes / runtime
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin/python").touch()
    (folder / ".complete").touch()
    files = {
        "pump.toml": put(layout, b"# release %d" % number),
        "pump.tflite": put(layout, b"a model"),
    }
    return {
        "service": service,
        "id": f"20261121-0530{number:02}-3f2a9c1b",
        "digest": f"{number:064}",
        "made": "2026-11-21T05:30:12+00:00",
        "by": "ann@laptop",
        "edgelstm": "0.1.0",
        "files": files,
        "configuration": "pump.toml",
        "artifacts": ["pump.tflite"],
        "runtime": {
            "id": runtime,
            "python": "3.11",
            "architecture": "x86_64",
            "wheels": {f"own-{number}-py3-none-any.whl": put(layout, b"a wheel %d" % number)},
            "requirements": [],
            "installer": "pip.whl",
            "offline": True,
        },
        "unit": UNIT,
        "expect_readings": True,
        "schema": 1,
    }
