from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from agent_rig import small_disk

CHILD = Path(__file__).with_name("agent_child.py")


def test_a_full_disk_is_said_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    done = subprocess.run(
        [*small_disk(tmp_path, 80), sys.executable, str(CHILD), "full", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["broken"] == []
    assert {name: len(said) for name, said in result["said"].items()} == {
        "receive": 4,
        "stage": 4,
        "runtime": 4,
    }
    for said in result["said"].values():
        for sentence in said:
            assert sentence.startswith("The device's disk is full (")
            assert sentence.endswith("deploy again; what runs there was left alone.")
    assert result["history"] == "No space left on device"
    assert result["entries"] == 1
    assert result["after"] != []  # with room, all of it goes well
