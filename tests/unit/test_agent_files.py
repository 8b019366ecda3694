from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest
from agent_device import Caller, a_layout

from edgelstm_devices.agent import history
from edgelstm_devices.agent.context import AgentError
from edgelstm_devices.agent.files import in_words, locked, remove_at_once, remove_tree, write_file
from edgelstm_devices.agent.history import append_history, read_history


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "full"), r"disk is full \([\d,]+ MB left in "),
        (OSError(errno.EDQUOT, "full"), "disk is full"),
        (OSError(errno.EROFS, "read-only", "/opt/x"), "/opt/x, which is mounted read-only"),
        (PermissionError(errno.EACCES, "no", "/opt/x"), "write to /opt/x; deploy as one who"),
        (OSError(errno.EIO, "Input/output error", "/opt/x"), "/opt/x: Input/output error; mend"),
    ],
)
def test_what_the_system_says_becomes_a_sentence(
    tmp_path: Path, error: OSError, message: str
) -> None:
    with pytest.raises(AgentError, match=message), in_words(tmp_path / "not" / "there"):
        raise error


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_file(path, b"old", 0o444)
    write_file(path, b"new", 0o444)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_file(path, b"newer")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o444
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_a_tree_goes_though_it_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").touch()
    (tmp_path / "kept").touch()
    (tmp_path / "a/link").symlink_to(tmp_path / "kept")
    for name in ("a/b", "a"):
        (tmp_path / name).chmod(0o555)
    child = os.fork() if os.geteuid() == 0 else 0
    if child == 0:  # root may do anything, so somebody else has to try
        code = 1
        try:
            if os.geteuid() == 0:
                for path in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
                    os.chown(path, 12345, 12345)
                os.chdir(tmp_path)
                os.setuid(12345)
            remove_tree(Path("a"))
            code = 0
        finally:
            if os.geteuid() == 12345:
                os._exit(code)
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    remove_tree(tmp_path / "kept")
    remove_tree(tmp_path / "kept")


def test_root_changes_no_mode_by_a_path_that_others_could_bend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b").chmod(0o555)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "rmdir", fail)
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "a")
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o555


def test_nobody_else_may_hold_a_lock(tmp_path: Path) -> None:
    """To lock a file it is enough to read it, and the service must not keep deployments out."""
    with locked(tmp_path / ".lock", Caller()):
        assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o600


def test_a_folder_goes_at_once_also_after_it_went_half(tmp_path: Path) -> None:
    for name in ("x", ".x.gone"):
        (tmp_path / name / "y").mkdir(parents=True)
    remove_at_once(tmp_path / "x")
    remove_at_once(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_one_deployment_waits_for_another(tmp_path: Path) -> None:
    path, caller = tmp_path / ".lock", Caller()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(path, Caller()):
            entered.set()
            leave.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(20)
    caller.here = False
    with pytest.raises(AgentError, match="went away"), locked(path, caller):
        pass
    assert caller.events == [{"what": "waiting", "why": "another deployment to this device"}]
    leave.set()
    holder.join()
    with locked(path, Caller()):
        pass


def test_the_lock_of_a_file_that_is_gone_is_none(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path, Caller()):
        path.unlink()
        with locked(path, Caller()):  # a new file, so a new lock
            late = Caller(here=False)
            with pytest.raises(AgentError, match="went away"), locked(path, late):
                pass


def test_a_file_that_goes_while_it_is_locked_is_locked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / ".lock", fcntl.flock

    def lock_late(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        path.unlink()  # by an uninstallation that had it until now
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with locked(path, Caller()) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), path.stat())


def test_history_is_bounded_and_survives_what_is_no_line_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT", 5)
    place = a_layout(tmp_path).service("pump")
    place.folder.mkdir(parents=True)
    assert read_history(place) == []
    for number in range(7):
        append_history(place, {"release": str(number)})
    assert [entry["release"] for entry in read_history(place)] == list("23456")
    with place.history.open("ab") as file:
        file.write(b'\xff\n[1]\n{"half')
    assert len(read_history(place)) == 5
    append_history(place, {"release": "7"})
    assert [entry["release"] for entry in read_history(place)] == list("34567")
    assert place.history.read_bytes().count(b"\n") == 5
