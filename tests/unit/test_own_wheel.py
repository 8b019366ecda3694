from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import edgelstm
from edgelstm.errors import DeploymentError
from edgelstm_devices import own_wheel as module
from edgelstm_devices.own_wheel import PACKAGES, own_wheel

INFO = f"edgelstm-{edgelstm.__version__}.dist-info"
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_wheel(tmp_path_factory.mktemp("wheel"))


def test_it_has_every_file_of_the_packages_and_nothing_that_was_left_there(wheel: Path) -> None:
    assert wheel.name == f"edgelstm-{edgelstm.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, INFO}
    for expected in (
        "edgelstm/cli.py",
        "edgelstm/py.typed",
        "edgelstm/dashboard/assets/LICENSE-uPlot.txt",
        "edgelstm_bridge/codec.py",
        "edgelstm_devices/data/pi4.toml",
        "edgelstm_devices/locks/ai-edge-litert.txt",
        "edgelstm_devices/agent/layout.py",
        "edgelstm_devices/setup/edgelstm@.service",
        "edgelstm_quantize/__init__.py",
        f"{INFO}/licenses/LICENSE",
    ):
        assert expected in names
    assert len(names) == len(set(names))
    assert not [name for name in names if "__pycache__" in name or "/." in name]
    archive = zipfile.ZipFile(wheel)
    assert archive.read("edgelstm/errors.py") == (PROJECT / "edgelstm/errors.py").read_bytes()


def test_its_record_has_the_hash_and_the_size_of_every_other_file(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    rows = list(csv.reader(io.StringIO(archive.read(f"{INFO}/RECORD").decode())))
    assert [row[0] for row in rows] == archive.namelist()
    assert rows[-1] == [f"{INFO}/RECORD", "", ""]
    for name, digest, size in rows[:-1]:
        data = archive.read(name)
        expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={expected}", str(len(data)))


def test_it_says_what_it_is_and_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    about = Parser().parsestr(archive.read(f"{INFO}/METADATA").decode())
    assert (about["Name"], about["Version"]) == ("edgelstm", edgelstm.__version__)
    assert about["Requires-Python"] == ">=3.11"
    assert "click>=8.1" in about.get_all("Requires-Dist", [])
    assert "service" in about.get_all("Provides-Extra", [])
    points = archive.read(f"{INFO}/entry_points.txt").decode()
    assert points == "[console_scripts]\nedgelstm = edgelstm.cli:main\n"
    assert "Tag: py3-none-any\n" in archive.read(f"{INFO}/WHEEL").decode()


def test_the_same_content_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert own_wheel(tmp_path).read_bytes() == wheel.read_bytes()
    entries = zipfile.ZipFile(wheel).infolist()
    # What zlib makes of the same bytes depends on its version.
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    (tmp_path / "beside").mkdir()
    for name in ("package/a.py", "package/inner/b.toml", "beside/c.service"):
        (tmp_path / name).write_text("x")
    for junk in ("a.pyc", ".hidden", "a.py~", "__pycache__/left.txt"):
        (package / junk).write_text("x")
    (package / "setup").symlink_to("../beside")
    (package / "inner/round").symlink_to("..")
    (package / "gone").symlink_to("nowhere")
    found = module._walk(package, (package.resolve(),))
    names = sorted(str(path.relative_to(package)) for path in found)
    assert names == ["a.py", "inner/b.toml", "setup/c.service"]


def test_what_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("edgelstm", "edgelstm_nowhere"))
    with pytest.raises(DeploymentError, match="edgelstm_nowhere is not there"):
        own_wheel(tmp_path)
    assert not list(tmp_path.iterdir())
