"""The health file on a disk that is full: see `test_outbox_full_disk` for the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from test_outbox_full_disk import small_disk

CHILD = """
import logging, sys, time
from pathlib import Path
from edgelstm.health import Health
from edgelstm.service import health_file

logging.basicConfig(stream=sys.stdout, format="%(message)s")
health_file._EVERY_S = 0.02
folder = Path(sys.argv[1])
filling = folder / "filling"
health = lambda: Health("gate", "1", 0.0, time.time(), ())
file = health_file.HealthFile(folder / "health.json", health)
try:
    filling.write_bytes(bytes(4_000_000))
except OSError:
    pass
file.start()
time.sleep(0.1)
print(sorted(path.name for path in folder.iterdir()))
filling.unlink()
stop = time.monotonic() + 20
while not (folder / "health.json").exists():
    assert time.monotonic() < stop
    time.sleep(0.01)
file.close()
print(sorted(path.name for path in folder.iterdir()))
"""


def test_a_full_disk_is_said_and_holds_up_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*small_disk(tmp_path), sys.executable, "-c", CHILD, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}/health.json cannot be written: No space left on device.",
        "['filling']",
        "[]",
    ]
