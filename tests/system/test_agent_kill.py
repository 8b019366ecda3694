from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent_child import LARGE, a_layout, deploy

from edgelstm_devices.agent.releases import release_ids
from edgelstm_devices.agent.store import intact

CHILD = Path(__file__).with_name("agent_child.py")


def test_whenever_it_is_killed_what_counts_is_whole_and_it_goes_on(tmp_path: Path) -> None:
    layout, kills = a_layout(tmp_path), 9
    begun = time.monotonic()
    subprocess.run([sys.executable, str(CHILD), "deploy", str(tmp_path / "other")], check=True)
    takes = time.monotonic() - begun
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, str(CHILD), "forever", str(tmp_path)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(takes * 1.3 * number / kills)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        check_whole(tmp_path)
    deploy(tmp_path)
    assert check_whole(tmp_path) > 0
    place = layout.service("pump")
    assert [path.name for path in place.releases.iterdir() if path.name.startswith(".")] == []
    assert len(list(layout.runtimes.iterdir())) == 1


def check_whole(folder: Path) -> int:
    """Looks at everything that counts; gives how many releases there are."""
    layout = a_layout(folder)
    stored = list(layout.store.iterdir()) if layout.store.is_dir() else []
    for path in stored:
        if path.suffix != ".part":
            intact(layout, path.name)
    place = layout.service("pump")
    there = release_ids(place)
    for identifier in there:
        release = place.release(identifier)
        spec = json.loads((release / "release.json").read_text())
        assert {path.name for path in release.iterdir()} == {
            "release.json", "runtime", *spec["files"],
        }  # fmt: skip
        assert (release / "pump.tflite").read_bytes() == LARGE
        done = subprocess.run(
            [release / "runtime/bin/edgelstm"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "at your service\n"
    return len(there)
