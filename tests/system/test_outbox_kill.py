from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

from edgelstm.outbox import FILE, Archive

CHILD = Path(__file__).with_name("outbox_child.py")
ROUNDS = 20


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """What the process said to be on the disk arrives, in order; nothing is half-written."""
    rng = random.Random(7)  # noqa: S311  # no secret
    committed: dict[str, int] = {}
    for turn in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, CHILD, "work", tmp_path],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stderr is not None
        with child, child.stdout, child.stderr:
            lines = []
            if turn % 4 == 3:
                time.sleep(rng.uniform(0.2, 0.8))  # while it starts
            else:
                lines.append(child.stdout.readline())  # it has begun
                assert lines[0], child.stderr.read().decode()
                time.sleep(rng.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.read().splitlines(keepends=True)
            errors = child.stderr.read().decode()
        assert child.returncode == -signal.SIGKILL, errors
        said = [line for line in lines if line.endswith(b"\n")]
        if said:
            counts = json.loads(said[-1].split(b" ", 1)[1])
            assert all(counts[sensor] >= committed.get(sensor, 0) for sensor in counts), turn
            committed = counts
    done = subprocess.run(
        [sys.executable, CHILD, "drain", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    final = json.loads(done.stdout)
    assert all(final[sensor] >= committed[sensor] for sensor in committed)

    received: dict[str, list[int]] = defaultdict(list)
    for line in (tmp_path / "received").read_text().splitlines():
        sensor, _, notice_id = line.partition(" ")
        alert_id, place = notice_id.split("/")
        received[sensor].append(3 * int(alert_id.removeprefix(sensor)) + int(place))
    for sensor, count in final.items():
        got = received[sensor]
        firsts = list(dict.fromkeys(got))
        assert firsts == list(range(1, count + 1)), sensor  # each, and at first in order
        for earlier, later in pairwise(got):  # and a repeat goes on from there in order
            assert later <= earlier + 1
    assert sum(final.values()) > 10 * ROUNDS
    with Archive(tmp_path / FILE) as archive:
        assert archive._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        ids = [i for (i,) in archive._connection.execute("SELECT id FROM notices")]
        assert len(set(ids)) == len(ids)
