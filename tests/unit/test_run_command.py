"""What `edgelstm run` refuses, and the configurations that it writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgelstm.cli import main
from edgelstm.configuration import read_settings

TINY = Path(__file__).parents[1] / "data" / "tiny.tflite"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", *arguments])


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return Path(shutil.copy(TINY, tmp_path / "my pump.tflite"))


def test_options_become_a_configuration(artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "pump.toml"
    options = ["--open-after", "3/5", "--cool-down", "1h", "--any-rate", "--no-calibration"]
    more = ["--baud-rate", "9600", "--state", str(tmp_path / "state"), "--dashboard"]
    result = run(
        str(artifact), "--port", "/dev/ttyACM0", *options, *more, "--write-config", str(path)
    )
    assert result.exit_code == 0, result.output
    settings = read_settings(path)
    (source,) = settings.sources.values()
    assert (source.port, source.baud_rate) == ("/dev/ttyACM0", 9600)
    ((name, sensor),) = settings.sensors.items()
    assert name == "my-pump"
    assert sensor.artifact.samefile(artifact)
    assert (sensor.rate, sensor.calibration) == ("any", False)
    policy = sensor.detection.policy()
    assert (policy.k, policy.n, policy.cool_down) == (3, 5, 3600)
    assert settings.state_directory == tmp_path / "state"
    assert settings.dashboard is not None
    assert settings.metrics is None


def test_a_configuration_is_written_without_anything(tmp_path: Path) -> None:
    path = tmp_path / "pump.toml"
    assert run("--write-config", str(path)).exit_code == 0
    assert "[sensors." in path.read_text()
    again = run("--write-config", str(path))
    assert again.exit_code == 2
    assert "--force" not in again.stderr
    assert "exists" in again.stderr


def test_a_configuration_is_tried_without_opening_anything(artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "pump.toml"
    port = ["--port", "/dev/not-there"]
    assert run(str(artifact), *port, "--write-config", str(path)).exit_code == 0
    result = run(str(path), "--check")
    assert (result.exit_code, result.stdout) == (0, "pump.toml will do: 1 sensor, 0 sinks.\n")
    artifact.write_bytes(artifact.read_bytes()[:-100])
    result = run(str(path), "--check")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "what is to be watched"),
        (("pump.tflite",), "'--port'"),
        (("pump.toml", "--port", "x", "--resample"), "--port, --resample beside pump.toml"),
        (("pump.toml",), "pump.toml"),
        (("pump.tflite", "--port", "x", "--resample", "--any-rate"), "exclude one another"),
        (("pump.tflite", "--port", "x", "--write-config", "pump.ini"), ".toml"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
