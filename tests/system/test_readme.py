"""The README says what is: its commands print what stands there, its examples run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import readme


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return readme.workplace(tmp_path_factory.mktemp("readme"))


# In the order of the README: the later ones use the files of the earlier ones.
@pytest.mark.parametrize("number", range(len(readme.blocks(readme.README.read_text()))))
def test_a_block_does_what_the_readme_says(number: int, folder: Path) -> None:
    language, block = readme.blocks(readme.README.read_text())[number]
    if language == "python":
        readme.run([sys.executable, "-c", block], folder)
    else:
        assert readme.masked(readme.run_console(block, folder)) == readme.masked(block)


def test_examples_run(folder: Path) -> None:
    output = readme.run([sys.executable, "examples/own_model.py"], folder)
    assert re.search(r"differs from Keras by \d\.\d%", output)
    recording = "edgelstm/demo/data/machine_temperature.csv"
    watching = ["examples/watch.py", "machine.tflite", f"replay:{recording}"]
    output = readme.run([sys.executable, *watching], folder)
    assert "22695 readings" in output
    assert "opened" in output


def test_links_lead_somewhere() -> None:
    folders = ("", "docs", "docs/decisions", "firmware_bridge", "firmware_bridge/firmware")
    pages = [page for folder in folders for page in (readme.ROOT / folder).glob("*.md")]
    assert len(pages) > 20
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), (page, target)


def test_every_command_is_in_the_readme() -> None:
    from edgelstm.cli import main

    text = readme.README.read_text()
    assert [name for name in main.commands if f"edgelstm {name}" not in text] == []
