from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import edgelstm
from edgelstm.errors import ConfigurationError, DeploymentError
from edgelstm_devices.bundle import Bundle, assemble, content_digest
from edgelstm_devices.pins import locked
from edgelstm_devices.release import StoredFile
from edgelstm_devices.runtime_bundle import make_runtime
from edgelstm_devices.runtimes import load_runtimes
from edgelstm_devices.shipment import Options, read_shipment
from edgelstm_devices.wheel_names import Target

DATA = Path(__file__).parents[1] / "data"
NOW = datetime(2026, 11, 21, 5, 30, 12, tzinfo=UTC)
OWN = f"edgelstm-{edgelstm.__version__}-py3-none-any.whl"
PIP = f"{str(locked('installer')[0]).replace('==', '-')}-py3-none-any.whl"


def made_wheel(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("x.py", name)
    return folder / name


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is when everything was fetched before: so nothing asks pip."""
    cache = tmp_path_factory.mktemp("cache")
    for python in ("3.11", "3.12"):
        folder = cache / "wheels" / Target(python, "aarch64", "2.36").key
        made_wheel(folder, PIP)
        for pin in locked("ai-edge-litert"):
            made_wheel(folder, f"{pin.name.replace('-', '_')}-{pin.version}-py3-none-any.whl")
    return cache


def bundle(
    cache: Path,
    *,
    source: Path = DATA / "tiny.tflite",
    service: str = "pump",
    port: str = "/dev/ttyACM0",
    python: str = "3.11.2",
    offline: bool = True,
    extras: Sequence[str] = (),
    unit: str = "[Service]\nExecStart=@RELEASE@/runtime/bin/edgelstm run @RELEASE@/pump.toml\n",
    now: datetime = NOW,
    by: str = "ann@laptop",
    expect_readings: bool = True,
) -> Bundle:
    runtime = load_runtimes()["ai-edge-litert", "aarch64"]
    target = Target(python, "aarch64", "2.36")
    return assemble(
        read_shipment(source, service, options=Options(port)),
        make_runtime(runtime, target, cache, offline=offline, extras=extras),
        service=service,
        unit=unit,
        cache=cache,
        now=now,
        by=by,
        expect_readings=expect_readings,
    )


def test_a_release_says_all_that_the_device_needs(cache: Path) -> None:
    made = bundle(cache)
    spec = made.spec
    assert re.fullmatch(r"20261121-053012-[0-9a-f]{8}", spec.id)
    assert spec.id.endswith(spec.digest[:8])
    assert (spec.service, spec.made, spec.by) == ("pump", "2026-11-21T05:30:12+00:00", "ann@laptop")
    assert (spec.configuration, spec.artifacts) == ("pump.toml", ("tiny.tflite",))
    assert spec.files.keys() == {"pump.toml", "tiny.tflite"}
    runtime = spec.runtime
    assert re.fullmatch(r"ai-edge-litert-2\.3\.0-py3\.11-aarch64-[0-9a-f]{8}", runtime.id)
    assert (runtime.python, runtime.architecture, runtime.installer) == ("3.11", "aarch64", PIP)
    assert runtime.offline
    assert set(runtime.requirements) == set(map(str, locked("ai-edge-litert")))
    assert {OWN, PIP} < runtime.wheels.keys()
    assert len(runtime.wheels) == len(locked("ai-edge-litert")) + 2
    assert made.sources.keys() == spec.stored().keys()
    for sha256, path in made.sources.items():
        assert StoredFile.of(path) == spec.stored()[sha256]
    json.dumps(spec.to_dict())


def test_online_only_what_no_index_has_is_sent(cache: Path) -> None:
    spec = bundle(cache, offline=False).spec
    assert spec.runtime.wheels.keys() == {OWN, PIP}
    assert set(spec.runtime.requirements) == set(map(str, locked("ai-edge-litert")))
    assert not spec.runtime.offline
    assert spec.runtime.id != bundle(cache).spec.runtime.id


def test_the_digest_is_of_the_content_alone(cache: Path, tmp_path: Path) -> None:
    first = bundle(cache).spec
    moved = Path(shutil.copytree(cache, tmp_path / "cache"))
    later = NOW.astimezone(timezone(timedelta(hours=2))) + timedelta(days=3)
    again = bundle(moved, now=later, by="bob@desk").spec
    assert (again.digest, again.runtime) == (first.digest, first.runtime)
    assert again.id == f"20261124-053012-{first.digest[:8]}"
    assert again.made == "2026-11-24T05:30:12+00:00"
    plug_in = made_wheel(tmp_path, "plug_in-0.3-py3-none-any.whl")
    others = (
        bundle(cache, source=DATA / "tiny_float.tflite"),
        bundle(cache, service="fan"),
        bundle(cache, port="/dev/ttyUSB0"),
        bundle(cache, unit="[Service]\n"),
        bundle(cache, python="3.12"),
        bundle(cache, offline=False),
        bundle(cache, expect_readings=False),
        bundle(cache, extras=[str(plug_in)]),
    )
    assert len({first.digest, *(other.spec.digest for other in others)}) == 9


def test_more_packages_and_other_versions(cache: Path, tmp_path: Path) -> None:
    plug_in = made_wheel(tmp_path, "Plug_In-0.3-py3-none-any.whl")
    made = bundle(cache, offline=False, extras=[str(plug_in), "Click==8.1.7", "spidev==3.6"])
    runtime = made.spec.runtime
    assert {"plug-in==0.3", "click==8.1.7", "spidev==3.6"} < set(runtime.requirements)
    assert "click==8.5.1" not in runtime.requirements
    assert runtime.wheels.keys() == {OWN, PIP, plug_in.name}
    assert made.sources[runtime.wheels[plug_in.name].sha256] == plug_in
    for wrong in ("spidev", "spidev>=3", "folder/"):
        with pytest.raises(ConfigurationError, match="NAME==VERSION"):
            bundle(cache, extras=[wrong])


def test_a_bundle_can_be_written_carried_and_read(cache: Path, tmp_path: Path) -> None:
    made = bundle(cache)
    folder = tmp_path / "stick"
    made.write(folder)
    assert {path.name for path in folder.iterdir()} == {"release.json", "files"}
    assert {path.name for path in (folder / "files").iterdir()} == made.spec.stored().keys()
    moved = folder.rename(tmp_path / "other")
    read = Bundle.read(moved)
    assert read.spec == made.spec
    assert all(path.parent == moved / "files" for path in read.sources.values())
    before = {path: path.stat().st_ino for path in (moved / "files").iterdir()}
    other = bundle(cache, source=DATA / "tiny_float.tflite")
    other.write(moved)
    after = {path: path.stat().st_ino for path in (moved / "files").iterdir()}
    assert Bundle.read(moved).spec == other.spec
    assert len(after) == len(before)
    assert len(after.items() - before.items()) == 2, "artifact and configuration"


def test_a_folder_of_something_else_is_left_alone(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("x")
    with pytest.raises(DeploymentError, match=r"such as thesis.odt; name a new folder"):
        bundle(cache).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]
    with pytest.raises(DeploymentError, match="cannot be written into"):
        bundle(cache).write(tmp_path / "thesis.odt/x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "the schema 2, and this edgelstm knows 1"),
        ({"service": 3}, "damaged .*service is 3"),
        ({"unit": "[Service]\nUser=root\n"}, "its digest is not that of what is in it"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_a_release_that_was_changed_is_refused(
    cache: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    bundle(cache, offline=False).write(tmp_path)
    path = tmp_path / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DeploymentError, match=message):
        Bundle.read(tmp_path)


def test_a_damaged_bundle_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"no release in .*: No such file"):
        Bundle.read(tmp_path)
    made = bundle(cache, offline=False)
    made.write(tmp_path)
    file = tmp_path / "files" / made.spec.files["tiny.tflite"].sha256
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(DeploymentError, match="is missing or another"):
        Bundle.read(tmp_path)
    made.write(tmp_path)
    assert Bundle.read(tmp_path).spec == made.spec
    (tmp_path / "release.json").write_text("{")
    with pytest.raises(DeploymentError, match="not JSON"):
        Bundle.read(tmp_path)


def test_a_name_of_a_file_does_not_lead_out_of_the_folder(cache: Path, tmp_path: Path) -> None:
    made = bundle(cache, offline=False)
    made.write(tmp_path / "bundle")
    outside = tmp_path / "bundle/outside"
    outside.write_text("x")
    stored = StoredFile("../outside", 1)
    spec = replace(made.spec, files={**made.spec.files, "x": stored})
    spec = replace(spec, digest=content_digest(spec))
    (tmp_path / "bundle/release.json").write_text(json.dumps(spec.to_dict()))
    with pytest.raises(DeploymentError, match="is missing or another"):
        Bundle.read(tmp_path / "bundle")


def test_names_of_services(cache: Path) -> None:
    for name in ("", "../x", "a b", "-x", "x" * 65):
        with pytest.raises(ConfigurationError, match="A service cannot be called"):
            bundle(cache, service=name, offline=False)


def test_what_was_made_is_forgotten_when_nobody_made_it_again(cache: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(cache, tmp_path / "cache"))
    bundle(moved, port="/dev/old", offline=False)
    (old,) = [path for path in moved.glob("made/*/pump.toml") if "old" in path.read_text()]
    os.utime(old, (0, 0))
    made = bundle(moved, offline=False)
    assert not old.parent.exists()
    assert all(path.exists() for path in made.sources.values())
    assert not list(moved.glob(".making-*"))
