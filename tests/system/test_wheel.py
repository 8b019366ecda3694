"""The built wheel in a clean environment: what a device gets, and nothing of the host side."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


COLLECTION = "edgelstm_devices/ansible/ansible_collections/edgelstm/edgelstm"

# What deployment needs of its files is there, too.
DEPLOYING = """
import tempfile
from pathlib import Path
from edgelstm_devices.own_wheel import own_wheel
from edgelstm_devices.remote import Remote
from edgelstm_devices.unit import render_unit
with tempfile.TemporaryDirectory() as folder, Remote.local(Path(folder)) as remote:
    facts = remote.facts(online=False)
    wheel = own_wheel(Path(folder))
    unit = render_unit("pump", "system", ["char-ttyACM"])
    print(facts["python"]["architecture"], wheel.name, "ttyACM" in unit)
"""


def test_it_claims_only_the_projects_own_names(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "edgelstm",
        "edgelstm_bridge",
        "edgelstm_devices",
        "edgelstm_quantize",
    }
    for expected in (
        "edgelstm/demo/data/machine_temperature.csv",
        "edgelstm/demo/data/LICENSE-NAB.txt",
        "edgelstm/py.typed",
        "edgelstm_devices/data/pi4.toml",
        "edgelstm_devices/runtimes.toml",
        "edgelstm_devices/locks/ai-edge-litert.txt",
        "edgelstm_devices/setup/edgelstm@.service",
        "edgelstm_devices/agent/trial.py",
        f"{COLLECTION}/galaxy.yml",
        f"{COLLECTION}/plugins/module_utils/agent/trial.py",
    ):
        assert expected in names


def test_a_clean_environment_runs_what_a_device_runs(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel], check=True, cwd=tmp_path)

    def edgelstm(*arguments: str) -> str:
        command: list[str | Path] = [tmp_path / "env/bin/edgelstm", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        output: str = result.stdout
        return output

    listed = subprocess.run(
        [python, "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "tensorflow" not in listed
    assert "edgelstm, version" in edgelstm("--version")
    tiny = str(ROOT / "tests/data/tiny.tflite")
    assert "undamaged" in edgelstm("inspect", tiny)
    assert "pi4" in edgelstm("devices")
    code = f"import edgelstm as e; s = e.load({tiny!r}); print(s.verify(), len(s.step([20, -5])))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "None 2\n"
    answer = subprocess.run([python, "-c", DEPLOYING], capture_output=True, text=True, check=True)
    assert answer.stdout == f"{os.uname().machine} edgelstm-0.1.0-py3-none-any.whl True\n"
