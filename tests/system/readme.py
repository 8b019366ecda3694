"""Runs the commands of the README. `python tests/system/readme.py` writes their output into it.

A block marked `console` holds commands after `$ ` and what they print. A command that ends in `&`
runs beside the following ones until the block ends.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
_BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.S)


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of the blocks that can be run."""
    return _BLOCK.findall(text)


def commands(block: str) -> list[str]:
    """The commands of a console block."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def run_console(block: str, folder: Path) -> str:
    """Runs a console block and gives it back with the output of now."""
    background: list[subprocess.Popen[str]] = []
    lines: list[str] = []
    for command in commands(block):
        lines.append(f"$ {command}")
        if command.endswith("&"):
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command[:-1]}"],
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                text=True,
            )
            background.append(process)
            assert process.stdout
            lines.append(process.stdout.readline().rstrip())  # it is ready
        else:
            lines += run(["/bin/sh", "-c", command], folder).splitlines()
    for process in background:
        with process:
            lines += process.communicate(timeout=30)[0].splitlines()
    return "\n".join(lines) + "\n"


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


def environment() -> dict[str, str]:
    """The environment with the project's own commands first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def workplace(folder: Path) -> Path:
    """A folder that looks like the root of the project to the commands of the README."""
    for name in ("edgelstm", "examples"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def masked(output: str) -> list[str]:
    """The lines with every figure masked, in any order: what does not depend on the machine."""

    def mask(line: str) -> str:
        line = re.sub(
            r"^[0-9a-hjkmnp-tv-z]{6}  ", "id  ", line
        )  # of an alert: half of it is chance
        line = re.sub(r"\d[\d,.:]*", "#", line)
        line = re.sub(r"  +", "  ", line)  # a column is as wide as its widest figure
        return re.sub(r"# (d|h|min)( # (h|min))?", "# time", line)  # "4 h 55 min", or just "5 h"

    return sorted(map(mask, output.splitlines()))


def main() -> None:
    """Writes the output of now into the README."""
    text = README.read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = workplace(Path(name))
        for language, block in blocks(text):
            if language == "console":
                text = text.replace(block, run_console(block, folder))
    README.write_text(text)


if __name__ == "__main__":
    main()
