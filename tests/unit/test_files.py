from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from edgelstm.errors import ConfigurationError, OutputExistsError
from edgelstm.files import atomic_path, check_output


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_check_output_accepts_a_new_file(tmp_path: Path) -> None:
    check_output(tmp_path / "new.tflite", force=False)
    assert names(tmp_path) == []


def test_check_output_accepts_a_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_output(Path("new.tflite"), force=False)


def test_check_output_refuses_an_existing_file_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "old.tflite"
    path.write_text("old")
    with pytest.raises(OutputExistsError, match=r"old\.tflite exists already; use --force"):
        check_output(path, force=False)
    check_output(path, force=True)
    assert path.read_text() == "old"


@pytest.mark.parametrize("force", [False, True])
def test_check_output_refuses_a_folder(tmp_path: Path, force: bool) -> None:
    with pytest.raises(ConfigurationError, match="is a folder"):
        check_output(tmp_path, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_check_output_refuses_what_is_no_ordinary_file(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(ConfigurationError, match="is a device or a pipe"):
            check_output(path, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_check_output_refuses_a_missing_folder(tmp_path: Path, force: bool) -> None:
    with pytest.raises(ConfigurationError, match="no/such does not exist"):
        check_output(tmp_path / "no" / "such" / "new.tflite", force=force)


def test_check_output_refuses_a_folder_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by chmod: root, as in most containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    with pytest.raises(ConfigurationError, match="may not be written"):
        check_output(tmp_path / "new.tflite", force=False)


def test_output_exists_error_is_a_builtin_too(tmp_path: Path) -> None:
    assert issubclass(OutputExistsError, FileExistsError)


def test_atomic_path_puts_the_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "new.tflite"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tflite"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["new.tflite"]


def test_atomic_path_with_a_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_path(Path("new.tflite")) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["new.tflite"]


def test_atomic_path_replaces_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), ValueError(), KeyboardInterrupt()]
)
def test_atomic_path_leaves_nothing_after_an_error(tmp_path: Path, error: BaseException) -> None:
    def write(path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)):
        write(path)
    assert names(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_atomic_path_leaves_nothing_when_the_disk_fails_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(OSError, match="the disk fails"),
        atomic_path(tmp_path / "file") as temporary,
    ):
        temporary.write_text("new")
    assert names(tmp_path) == []


def test_atomic_path_reaches_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    in_place_at_sync: list[bool] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        in_place_at_sync.append(path.exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert in_place_at_sync == [False, True]  # the data, then the folder with the name


def test_atomic_path_gives_the_mode_of_any_new_file(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("new")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {stat.S_IMODE(ordinary.stat().st_mode)}


def test_check_output_refuses_another_suffix(tmp_path: Path) -> None:
    check_output(tmp_path / "a.keras", force=False, suffix=".keras")
    with pytest.raises(ConfigurationError, match=r"a\.h5 does not end in \.keras"):
        check_output(tmp_path / "a.h5", force=False, suffix=".keras")
