"""What tests of the agent run in processes of their own: `python agent_child.py WHAT FOLDER`.

Nothing here is a test; see `test_agent_kill.py` and `test_agent_full_disk.py`.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_rig import OWN_WHEEL, PIP_WHEEL, a_release, a_runtime, own_wheel, pip_wheel, put

from edgelstm_devices.agent.context import AgentError, Context
from edgelstm_devices.agent.history import append_history, read_history
from edgelstm_devices.agent.layout import Layout
from edgelstm_devices.agent.releases import prune, stage
from edgelstm_devices.agent.runtimes import install_runtime

PROGRAM = "def main():\n    print('at your service')\n"
LARGE = random.Random(7).randbytes(3_000_000)  # noqa: S311  # to tear, not to hide


def a_layout(folder: Path) -> Layout:
    return Layout("user", folder / "edgelstm", {"HOME": str(folder), "XDG_RUNTIME_DIR": "/none"})


def wheels() -> dict[str, bytes]:
    return {PIP_WHEEL: pip_wheel(), OWN_WHEEL: own_wheel(PROGRAM, {"large.bin": LARGE + LARGE})}


def deploy(folder: Path, number: int = 1) -> str:
    """Does all that comes before the switch."""
    layout, context = a_layout(folder), Context()
    runtime = a_runtime(layout, wheels())
    install_runtime(context, layout=layout, runtime=runtime)
    files = {"pump.toml": b"# %d" % number, "pump.tflite": LARGE}
    spec = a_release(layout, runtime, files, id=f"20261121-0530{number:02}-3f2a9c1b")
    stage(context, layout=layout, spec=spec)
    append_history(layout.service("pump"), {"release": spec["id"], "committed": True})
    return str(spec["id"])


def forever(folder: Path) -> None:
    """Deploys and tidies up until it is killed, and says when it begins."""
    print("begun", flush=True)  # noqa: T201
    for number in range(1, 100):
        deploy(folder, number)
        prune(Context(), layout=a_layout(folder), service="pump", keep=1)


def full(folder: Path) -> None:
    """On a small disk: deploys, fills it more and more, and tries everything again each time."""
    layout = a_layout(folder)
    deploy(folder)
    result: dict[str, Any] = {"said": {}, "broken": []}
    tries: dict[str, Callable[[], object]] = {
        "receive": lambda: put(layout, random.Random(1).randbytes(4_000_000)),  # noqa: S311
        "stage": lambda: stage(
            Context(),
            layout=layout,
            spec=a_release(
                layout,
                a_runtime(layout, wheels()),
                {"pump.toml": b"# 2", "pump.tflite": LARGE},
                id="20261121-053102-3f2a9c1b",
            ),
        ),
        "runtime": lambda: install_runtime(
            Context(), layout=layout, runtime=a_runtime(layout, wheels(), id="another")
        ),
    }
    # What is needed for each is in the store; only then the disk is filled.
    put(layout, b"# 2")
    before = tree(layout.root)
    for left in (3_000_000, 1_000_000, 100_000, 0):
        fill(folder / "filling", left)
        for name, attempt in tries.items():
            try:
                attempt()
            except AgentError as error:
                result["said"].setdefault(name, []).append(str(error))
            if tree(layout.root) != before:
                result["broken"].append([name, left])
        (folder / "filling").unlink()
    place = layout.service("pump")
    fill(folder / "filling", 0)
    try:
        append_history(place, {"release": "x" * 100_000})
    except OSError as error:
        result["history"] = error.strerror
    result["entries"] = len(read_history(place))
    (folder / "filling").unlink()
    for name in ("stage", "runtime"):
        tries[name]()
    result["after"] = sorted(set(tree(layout.root)) - set(before))[:3]
    print(json.dumps(result))  # noqa: T201


def fill(path: Path, left: int) -> None:
    """Fills the disk up to so many bytes."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        size = file.tell()
        file.truncate(max(size - left, 0))


def tree(folder: Path) -> dict[str, int]:
    """Every file of an installation with its size, but for empty ones such as locks."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not path.is_symlink() and path.stat().st_size:
                found[str(path.relative_to(folder))] = path.stat().st_size
    return found


if __name__ == "__main__":
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "deploy":
        deploy(folder)
    elif what == "forever":
        forever(folder)
    else:
        full(folder)
