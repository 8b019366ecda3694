"""What changes when a release is tried, taken, or given up: units, links, and the guard.

A trial touches nothing that outlives a reboot. Taking a release is a few renames of files that are
written before, so that no full disk comes in between; after each of them a reboot finds one whole
release. One of them counts: the unit that names the folder of the new release. What follows leads
to where the next deployment begins: `current` is the new one, and the unit names that.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .context import AgentError
from .files import LOCK_FILE, in_words, make_folder, sync, write_file
from .layout import Service
from .systemd import Systemd

RELEASE_MARK = "@RELEASE@"
"""As in `edgelstm_devices.release`, which the device does not have."""

_TARGETS = {"system": "multi-user.target", "user": "default.target"}
_GUARD = "edgelstm-guard-{name}:{number}.service"
_ON_TRIAL = """
# On trial: the first failure decides, and nothing of it is there after a reboot.
[Service]
Restart=no
"""


def release_spec(service: Service, identifier: str) -> dict[str, Any]:
    """The release.json of a release that is there.

    Raises:
        AgentError: it is not, or cannot be read.
    """
    try:
        text = (service.release(identifier) / "release.json").read_text(encoding="utf-8")
        spec: dict[str, Any] = json.loads(text)
    except (OSError, ValueError) as error:
        raise AgentError(
            f"The release {identifier} of {service.name} is not on the device, or damaged; deploy "
            "it again."
        ) from error
    return spec


def unit_text(spec: Mapping[str, Any], folder: Path) -> str:
    """The unit of a release, that runs what is in a folder."""
    return str(spec["unit"]).replace(RELEASE_MARK, _escaped(folder))


def _escaped(path: Path) -> str:
    """A path as systemd reads it, with codes for what would divide it or mean something."""
    plain = "/_-.+,@:=~"
    return "".join(
        char if char.isascii() and (char.isalnum() or char in plain) else _code(char)
        for char in str(path)
    )


def _code(char: str) -> str:
    return "%%" if char == "%" else "".join(f"\\x{byte:02x}" for byte in char.encode())


def named_release(service: Service) -> str:
    """The id of the release whose own folder the installed unit names; "" when there is none.

    It names one, instead of `current`, while a release is being taken.
    """
    try:
        text = service.unit_file.read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(re.escape(_escaped(service.releases)) + r"/([^/\s]+)/", text)
    return found[1] if found else ""


def put_on_trial(service: Service, systemd: Systemd, spec: Mapping[str, Any]) -> None:
    """Has systemd know the unit of a release, until it is taken or a reboot."""
    text = unit_text(spec, service.release(spec["id"])) + _ON_TRIAL
    make_folder(service.trial_unit_file.parent)
    write_file(service.trial_unit_file, text.encode())
    systemd.reload()


def end_trial(service: Service, systemd: Systemd) -> None:
    """Has systemd know the installed unit again, if there is one; nothing is started or ended."""
    service.trial_unit_file.unlink(missing_ok=True)
    systemd.reload()


class Taking:
    """Takes a release that runs on trial. What needs room on the disk is done when it is made.

    Args:
        service: of the release.
        systemd: that runs it.
        spec: its release.json.

    Raises:
        AgentError, OSError: the disk is full or broken; nothing has changed.
    """

    def __init__(self, service: Service, systemd: Systemd, spec: Mapping[str, Any]) -> None:
        self._service, self._systemd = service, systemd
        wants = service.layout.units / f"{_TARGETS[service.layout.mode]}.wants"
        make_folder(wants)
        self._wanted = wants / service.unit
        self._was_wanted = os.path.lexists(self._wanted)
        self._new_wanted = wants / f".{service.unit}"
        self._unit_of_release = service.unit_file.with_name(f".{service.unit}.release")
        self._unit_of_current = service.unit_file.with_name(f".{service.unit}.current")
        self._link = service.current.with_name(".current")
        try:
            # What `systemctl enable` makes; that one would look at the unit on trial.
            _point(self._new_wanted, service.unit_file)
            release = unit_text(spec, service.release(spec["id"]))
            write_file(self._unit_of_release, release.encode())
            write_file(self._unit_of_current, unit_text(spec, service.current).encode())
            _point(self._link, Path("releases", spec["id"]))
            # The files of the release as well: they may not have reached the disk.
            os.sync()
        except BaseException:
            self.give_up()
            raise

    def to_take(self) -> tuple[Callable[[], None], ...]:
        """The steps after which it is taken."""
        return (
            lambda: _rename(self._new_wanted, self._wanted),
            lambda: _rename(self._unit_of_release, self._service.unit_file),
        )

    def to_finish(self) -> tuple[Callable[[], None], ...]:
        """The steps after those."""
        service = self._service
        return (
            lambda: _rename(self._link, service.current),
            lambda: _rename(self._unit_of_current, service.unit_file),
            lambda: service.trial_unit_file.unlink(missing_ok=True),
            self._systemd.reload,
        )

    def give_up(self) -> None:
        """Takes away what was prepared, when it is not taken."""
        made = [self._new_wanted, self._unit_of_release, self._unit_of_current, self._link]
        for path in made if self._was_wanted else [*made, self._wanted]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _point(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _rename(source: Path, target: Path) -> None:
    source.replace(target)
    sync(target.parent)


class Claim:
    """The right to change a service, which one process at a time has: `claimed` gives it.

    It is a lock on a file, so that it ends with the process, however that ends. While a trial is
    going on the file says which.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    def note(self, **fields: Any) -> None:
        """Writes down what is being done; nothing for the end of it.

        Raises:
            AgentError: the disk is full.
        """
        with in_words(self.path.parent):
            os.ftruncate(self._descriptor, 0)
            if fields:
                os.pwrite(self._descriptor, json.dumps(fields).encode() + b"\n", 0)
                os.fsync(self._descriptor)

    def noted(self) -> dict[str, Any]:
        """What was being done by somebody who came to no end; empty when nothing was."""
        try:
            found = json.loads(os.pread(self._descriptor, 1 << 16, 0) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def claimed(service: Service) -> Iterator[Claim]:
    """Claims a service.

    Raises:
        AgentError: somebody else has it, or nothing was ever deployed of that name.
    """
    path = service.folder / "trial.lock"
    nothing = AgentError(f"There is nothing of {service.name} on the device; deploy it first.")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, LOCK_FILE)
    except FileNotFoundError:
        raise nothing from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:  # uninstalled meanwhile
            raise nothing
        yield Claim(path, descriptor)
    except BlockingIOError as error:
        raise AgentError(
            f"Another deployment of {service.name} is going on on the device; wait for its end."
        ) from error
    finally:
        os.close(descriptor)


def dismiss_guards(service: Service, systemd: Systemd) -> None:
    """Has guards that a trial left do what they are there for, and waits for it."""
    systemd.stop(_GUARD.format(name=service.name, number="*"))


@contextlib.contextmanager
def guarded(
    service: Service, systemd: Systemd, claim: Claim, *, restart: bool, limit: float
) -> Iterator[None]:
    """Has systemd itself end the trial when this process dies, or takes too long.

    The guard is a unit that waits for the lock of the claim. If there is a unit on trial when that
    is over, whyever it is, nobody has ended the trial.

    Args:
        service: on trial.
        systemd: that runs it.
        claim: on the service.
        restart: whether the installed unit is to be started then; else the service is stopped.
        limit: in seconds.

    Raises:
        AgentError: there can be no guard.
    """
    flock = shutil.which("flock", path="/usr/bin:/bin:/usr/sbin:/sbin")
    if flock is None:
        raise AgentError("The device has no flock; run there: sudo apt-get install util-linux")
    systemctl = "systemctl --user" if service.layout.mode == "user" else "systemctl"
    trial_unit, unit = shlex.quote(str(service.trial_unit_file)), shlex.quote(service.unit)
    forget = f"rm -f {trial_unit} && {systemctl} daemon-reload"
    # What is stopped for good is stopped by the unit that started it, which knows what to remove.
    back = (
        f"{forget} && {systemctl} --no-block restart {unit}"
        if restart
        else f"{systemctl} stop {unit} && {forget}"
    )
    # No semicolon: when systemd reads a transient unit again, it has a backslash before it.
    script = f"[ ! -e {trial_unit} ] || ({back})"
    guard = _GUARD.format(name=service.name, number=time.monotonic_ns())
    systemd.run_apart(
        guard,
        [flock, str(claim.path), "/bin/true"],
        Description=f"edgelstm: goes back when a deployment of {service.name} is cut off",
        RuntimeMaxSec=f"{limit:.0f}",
        ExecStopPost=f'/bin/sh -c "{script}"',
    )
    try:
        yield
    finally:
        with contextlib.suppress(AgentError):
            systemd.stop(guard)
