"""The built wheel in a clean environment: what a device gets, and nothing of the host side."""

from __future__ import annotations

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
