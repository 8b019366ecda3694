from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("outbox_child.py")


def small_disk(folder: Path) -> list[str]:
    """Runs what follows where `folder` is a disk of 3 MB, which goes with the process."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o size=3m tmpfs "$1" && shift && exec "$@"'
    return ["unshare", *rights, "--mount", "sh", "-c", mount, "sh", str(folder)]


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_loses_nothing_and_is_said(tmp_path: Path, kind: str) -> None:
    before = small_disk(tmp_path) if kind == "disk" else []
    done = subprocess.run(
        [*before, sys.executable, str(CHILD), "full", str(tmp_path), kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    reason = "disk full" if kind == "disk" else "disk fails"
    assert reason in result["problem"]
    assert result["unsaved"] > 0
    got = result["got"]
    assert [one for one in got if one.startswith(reason)][:2] == [
        f"{reason} opened",
        f"{reason} closed",
    ]
    # Every notice came, in order; the full disk was told before the end of it.
    assert list(dict.fromkeys(one for one in got if "/" in one)) == result["sent"]
    assert result["open"] == []
    # The process that started on a full disk watched, too, and wrote it all down in the end.
    assert reason in result["late"]
    assert result["stored"] == sorted(result["sent"])
    assert result["still_open"] == []
    assert result["state"] == len(result["sent"])
    assert result["left"] == []
    assert result["slowest"] < 1.0  # submit never waits for the disk
