"""`Machine`: what can be seen of a device without changing it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROGRAM_S = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Run = Callable[..., Any]
"""Takes a program and its arguments, as `run_program` does."""


class Machine:
    """Files below a root, and programs that only read.

    Args:
        root: of the file system; another than "/" to look at a copy.
        run: starts a program, as `run_program` does.
        environ: of the user.
        user: number of the user who looks.
    """

    def __init__(
        self,
        root: str = "/",
        run: Run | None = None,
        environ: Mapping[str, str] = os.environ,
        user: int | None = None,
    ) -> None:
        self.root = Path(root)
        self.run = run or run_program
        self.environ = environ
        self.user = os.getuid() if user is None else user

    def path(self, name: str) -> Path:
        """Where a file of the device is."""
        return self.root / name.lstrip("/")

    def shown(self, path: Path) -> str:
        """The name on the device of what `path` or `glob` gave."""
        return f"/{path.relative_to(self.root)}"

    def read(self, name: str) -> str:
        """The text of a file; "" where it cannot be read."""
        try:
            content = self.path(name).read_bytes()
        except OSError:
            return ""
        return content.decode("utf-8", "replace").replace("\0", " ").strip()

    def link(self, name: str) -> str:
        """What a link points to, as it is written there; "" where there is none."""
        try:
            return str(self.path(name).readlink())
        except OSError:
            return ""

    def names(self, name: str) -> list[str]:
        """The names in a folder, sorted; none where it cannot be looked into."""
        try:
            return sorted(path.name for path in self.path(name).iterdir())
        except OSError:
            return []

    def glob(self, pattern: str) -> list[Path]:
        """The files that fit a pattern, sorted."""
        try:
            return sorted(self.root.glob(pattern.lstrip("/")))
        except OSError:
            return []


def run_program(*argv: str) -> tuple[int, str] | None:
    """Runs a program for some seconds at most; standard error is a part of what it said.

    Returns:
        Its exit code and what it said, or None when it is missing or too slow.
    """
    environ = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    # A session that PAM did not open, such as one of su, lacks it.
    environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    environ["PATH"] = f"{environ.get('PATH', '')}:{_PATH}".lstrip(":")
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            timeout=PROGRAM_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def properties(text: str) -> list[dict[str, str]]:
    """What `systemctl show` and `timedatectl show` print: NAME=VALUE lines, a block each unit."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.strip()]
    return [dict(line.split("=", 1) for line in block if "=" in line) for block in blocks]
