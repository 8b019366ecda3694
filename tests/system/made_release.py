"""Releases with a stand-in for edgelstm that starts at once, for tests of how releases come about.

Everything else is real: wheels, virtual environment, unit, proofs and health file.
"""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

from edgelstm_devices.bundle import Bundle, content_digest
from edgelstm_devices.release import ReleaseSpec, RuntimeSpec, StoredFile
from edgelstm_devices.unit import render_unit

BROKEN, SILENT = "broken", "silent"
"""Contents of an artifact: its golden vectors are not met, and the service gets no readings."""

_PROGRAM = """
import hashlib, json, os, pathlib, socket, sys, time


def main():
    command, *rest = sys.argv[1:]
    if command != "run" or "--check" in rest:
        broken = any(pathlib.Path(a).read_text() == "broken" for a in rest if a.endswith(".tflite"))
        first = {"run": 2, "target": "flow", "got": 1.0, "expected": 2.0, "tolerance": 0.1}
        verified = {"runtime": "made", "runs": 3, "first": first if broken else None}
        print(json.dumps({"findings": []} if command == "doctor" else verified))
        sys.exit(command == "verify" and broken)
    model = pathlib.Path(rest[0]).with_name("pump.tflite").read_bytes()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
        count = 0
        while True:
            count += model != b"silent"
            sensor = {"status": "ok", "problem": "", "readings": count}
            sensor["sha256"] = hashlib.sha256(model).hexdigest()
            health = {"time": time.time(), "pid": os.getpid(), "status": "ok", "problems": []}
            health["sensors"] = {"pump": sensor}
            file = pathlib.Path(os.environ["RUNTIME_DIRECTORY"], "health.json")
            file.with_suffix(".new").write_text(json.dumps(health))
            file.with_suffix(".new").replace(file)
            notify.send(b"WATCHDOG=1")
            time.sleep(0.1)
"""


def make_wheel(folder: Path) -> Path:
    """A wheel of the stand-in."""
    info = "edgelstm-0.0.1.dist-info"
    files = {
        "made_edgelstm.py": _PROGRAM,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: edgelstm\nVersion: 0.0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedgelstm = made_edgelstm:main\n",
    }
    record = ""
    path = folder / "edgelstm-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{name},sha256={digest.decode().rstrip('=')},{len(text.encode())}\n"
            wheel.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
        record_name = f"{info}/RECORD"
        wheel.writestr(
            zipfile.ZipInfo(record_name, (2026, 1, 1, 0, 0, 0)), f"{record}{record_name},,\n"
        )
    return path


def make_release(folder: Path, service: str, model: str, *, identifier: str = "") -> Bundle:
    """A release for a service, of a model that is a text.

    Args:
        folder: where its files are made; each release has one of its own.
        service: its name.
        model: `BROKEN`, `SILENT` or anything else.
        identifier: of the release; "" for one that is made of its content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pump.tflite").write_text(model)
    (folder / f"{service}.toml").write_text(f"# {service}\n")
    [pip] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    wheels = {path.name: path for path in (make_wheel(folder), pip)}
    paths = {name: folder / name for name in ("pump.tflite", f"{service}.toml")}
    stored = {name: StoredFile.of(path) for name, path in (wheels | paths).items()}
    digest = hashlib.sha256("".join(stored[name].sha256 for name in wheels).encode()).hexdigest()
    spec = ReleaseSpec(
        service=service,
        id="",
        digest="",
        made="2026-11-21T05:30:12+00:00",
        by="ann@laptop",
        edgelstm="0.0.1",
        files={name: stored[name] for name in paths},
        configuration=f"{service}.toml",
        artifacts=("pump.tflite",),
        runtime=RuntimeSpec(
            id=f"made-py3.11-{digest[:8]}",
            python="3.11",
            architecture="x86_64",
            wheels={name: stored[name] for name in wheels},
            requirements=(),
            installer=pip.name,
            offline=True,
        ),
        unit=render_unit(service, "system", ()),
    )
    digest = content_digest(spec)
    whole = replace(spec, digest=digest, id=identifier or f"20261121-053012-{digest[:8]}")
    return Bundle(whole, {stored[name].sha256: path for name, path in (wheels | paths).items()})
