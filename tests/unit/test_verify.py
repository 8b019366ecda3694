from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgelstm import Session, load
from edgelstm.artifact import Artifact
from edgelstm.cli import main
from edgelstm.errors import ArtifactError, ConfigurationError, DelegateWarning
from edgelstm.golden import check_golden


def verify(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


@pytest.fixture
def off(tiny: Artifact, tmp_path: Path) -> Path:
    """An artifact that says that it gave something else, from its run 40 on."""
    y = tiny.golden.y.copy()
    y[40:, 1] -= np.where(y[40:, 1] > 0, 7, -7).astype(np.int8)
    golden = dataclasses.replace(tiny.golden, y=y)
    manifest = dataclasses.replace(tiny.manifest, golden_tolerance=(2.0, 2.0))
    artifact = dataclasses.replace(tiny, manifest=manifest, golden=golden)
    path = tmp_path / "off.tflite"
    artifact.write(path)
    return path


def test_golden_vectors_that_hold(tiny_path: Path, tiny: Artifact) -> None:
    result = verify(tiny_path)
    assert result.exit_code == 0, result.output
    assert f"tiny.tflite is undamaged (sha256 {tiny.manifest.sha256[:12]}...)." in result.output
    assert "On litert " in result.output
    assert "all 128 golden runs hold; the largest difference is" in result.output


def test_the_first_run_that_differs_is_named(off: Path, tiny: Artifact) -> None:
    expected = int(Artifact.read(off).golden.y[40, 1])
    got = int(Session(tiny).replay(tiny.golden.x)[40][1])
    result = verify(off)
    assert result.exit_code == 1
    assert (
        f"do not hold, first in run 40, target 'level': {got} instead of {expected} (tolerance "
        in result.output
    )


def test_as_json(tiny_path: Path, off: Path) -> None:
    good, bad = (json.loads(verify(path, "--json").stdout) for path in (tiny_path, off))
    assert (good["holds"], good["first"], good["runs"]) == (True, None, 128)
    assert good["runtime"].startswith("litert ")
    assert good["delegate"] is None
    assert (bad["holds"], bad["first"]["run"], bad["first"]["target"]) == (False, 40, "level")
    assert bad["worst"] > 1
    assert verify(off, "--json").exit_code == 1


def test_a_damaged_file(tiny_path: Path, tmp_path: Path) -> None:
    data = bytearray(tiny_path.read_bytes())
    data[100] ^= 1
    path = tmp_path / "pump.tflite"
    path.write_bytes(data)
    result = verify(path)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {path} is damaged: bytes have changed since it was written. Copy it again from "
        "where it was made.\n"
    )


def test_a_plain_file_has_nothing_to_replay(tiny: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "plain.tflite"
    path.write_bytes(tiny.flatbuffer.replace(b"edgelstm step graph", b"someone's own graph"))
    result = verify(path)
    assert result.exit_code == 2
    assert "carries no golden vectors, so there is nothing to replay" in result.stderr


def test_a_delegate_that_is_not_there(tiny_path: Path) -> None:
    result = verify(tiny_path, "--delegate", "/nowhere/libnone.so")
    assert result.exit_code == 1  # the numbers hold, but they are the CPU's
    assert "Warning: The delegate /nowhere/libnone.so failed" in result.stderr
    assert "all 128 golden runs hold" in result.stdout
    assert "0 steps on the delegate, 128 on the CPU; it failed 1 x" in result.stdout


def test_a_delegate_of_no_name(tiny_path: Path) -> None:
    result = verify(tiny_path, "--delegate", "edgtpu")
    assert result.exit_code == 2
    assert "No delegate is called 'edgtpu'" in result.stderr


def test_load_verifies_when_asked(off: Path, tiny_path: Path) -> None:
    with load(off) as session:
        assert session.verify() == 40
    with pytest.raises(ArtifactError, match=r"golden vectors on this machine: .* first in run 40"):
        load(off, verify=True)
    load(tiny_path, verify=True).close()


def test_a_session_is_as_before_after_a_check(tiny: Artifact) -> None:
    session, other = Session(tiny), Session(tiny)
    for x in tiny.golden.x[:20]:
        session.step(x)
        other.step(x)
    assert session.check().runs == 128
    assert session.state.save() == other.state.save()


# The comparison


def test_worst_is_a_share_of_the_tolerance(tiny: Artifact) -> None:
    manifest = dataclasses.replace(tiny.manifest, golden_tolerance=(4.0, 2.0))
    artifact = dataclasses.replace(tiny, manifest=manifest)
    replay = tiny.golden.y.astype(np.int16)
    assert check_golden(artifact, list(replay)).worst == 0
    replay[7, 1] += 1
    check = check_golden(artifact, list(replay))
    assert (check.worst, check.first, check.runs) == (0.5, None, 128)
    replay[9] += 3
    first = check_golden(artifact, list(replay)).first
    assert first is not None
    assert (first.run, first.target, first.tolerance) == (9, "level", 2.0)
    assert first.got - first.expected == 3


def test_a_tolerance_of_zero_and_nan(tiny_float32: Artifact) -> None:
    manifest = dataclasses.replace(tiny_float32.manifest, golden_tolerance=(0.0, 0.0))
    artifact = dataclasses.replace(tiny_float32, manifest=manifest)
    replay = tiny_float32.golden.y.copy()
    assert check_golden(artifact, list(replay)).first is None
    replay[3, 0] = np.nan
    first = check_golden(artifact, list(replay)).first
    assert first is not None
    assert (first.run, first.target) == (3, "flow")


def test_nothing_to_compare(tiny: Artifact) -> None:
    golden = dataclasses.replace(tiny.golden, x=tiny.golden.x[:0], y=tiny.golden.y[:0])
    check = check_golden(dataclasses.replace(tiny, golden=golden), [])
    assert (check.runs, check.first) == (0, None)


def test_an_error_at_load_leaves_no_delegate_behind(tiny_path: Path) -> None:
    with (
        pytest.warns(DelegateWarning),
        pytest.raises(ConfigurationError, match="No policy is called 'guess'") as caught,
    ):
        load(tiny_path, delegate="/nowhere/libnone.so", invalid="guess")
    assert caught.tb  # it holds all that was there
    assert "edgelstm-delegate" not in [thread.name for thread in threading.enumerate()]


def test_what_json_has_no_number_for_is_null(tiny_float32: Artifact, tmp_path: Path) -> None:
    y = tiny_float32.golden.y.copy()
    y[3, 0] = np.nan
    broken = dataclasses.replace(tiny_float32, golden=dataclasses.replace(tiny_float32.golden, y=y))
    broken.write(tmp_path / "broken.tflite")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    result = verify(tmp_path / "broken.tflite", "--json")
    found = json.loads(result.stdout, parse_constant=refuse)
    assert (found["holds"], found["worst"], found["first"]["expected"]) == (False, None, None)
    assert found["first"]["run"] == 3


def test_an_empty_name_is_no_delegate(tiny_path: Path) -> None:
    result = verify(tiny_path, "--delegate", "")
    assert result.exit_code == 2
    assert "No delegate is called ''" in result.output
