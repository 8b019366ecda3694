"""`fetch`: the wheels for a device, downloaded here by pip, for a device without internet.

pip is the user's own, with the user's configuration: indexes, certificates, folders of wheels.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from edgelstm.errors import ConfigurationError, DeploymentError, MissingDependencyError
from edgelstm_devices.pins import Pin
from edgelstm_devices.wheel_names import Target, WheelName

Progress = Callable[[str], None]

_NOT_FOUND = re.compile(r"No matching distribution found for (\S+)")
# pip says that it found nothing also where it could not look; what it says of that needs -vv.
_UNREACHED = re.compile(r"connection broken by|Could not fetch URL \S+: (?!404 |410 )")
_PARTIAL = ".fetching-"
_STALE_S = 86_400.0


def default_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where wheels are kept on the laptop, by the XDG Base Directory Specification."""
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = Path(environ.get("HOME") or Path.home()) / ".cache"
    return base / "edgelstm"


def fetch(
    pins: Iterable[Pin],
    target: Target,
    cache: Path,
    progress: Progress = lambda _line: None,
    *,
    index: str = "",
) -> dict[str, Path]:
    """Gets wheels that a device can install; those that were got before need no network.

    Args:
        pins: what to get; what it depends on is not got.
        target: the device.
        cache: keeps the wheels, those for `target` in a folder of its own.
        progress: takes a line for each wheel that is downloaded.
        index: where to look for what no index of the user has, such as piwheels; "" for nowhere.

    Returns:
        The wheels by file name.

    Raises:
        DeploymentError: there is no such wheel, or no index could be reached.
        MissingDependencyError: there is no pip here.
    """
    folder = cache / "wheels" / target.key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        found = _cached(folder, target)
        needed = tuple(dict.fromkeys(pins))
        missing = [pin for pin in needed if pin not in found]
        if missing:
            _download(missing, target, folder, progress, index)
            found = _cached(folder, target)
    except OSError as error:
        raise DeploymentError(
            f"Wheels cannot be kept in {folder}: {error.strerror or error}; make room there, or "
            "set XDG_CACHE_HOME to another folder."
        ) from error
    if lost := [pin for pin in needed if pin not in found]:
        raise DeploymentError(
            f"pip brought no wheel of {_listed(lost)}; see which files of that are in its index."
        )
    return {found[pin].name: found[pin] for pin in needed}


def given_wheel(path: Path, target: Target) -> Pin:
    """The package in a wheel of the user's own.

    Raises:
        ConfigurationError: there is no such file, or it is no wheel.
        DeploymentError: the device cannot install it.
    """
    name = WheelName.parse(path.name)
    if not path.is_file():
        raise ConfigurationError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ConfigurationError(f"{path} is damaged or no wheel; build or download it again.")
    if not target.takes(name):
        raise DeploymentError(
            f"{path.name} is not for {target}; take a wheel of {name.pin.name} that is."
        )
    return name.pin


class _Found(dict[Pin, Path]):
    """Wheels, found by pins that may write the version in another way."""

    def __contains__(self, pin: object) -> bool:
        return isinstance(pin, Pin) and self._match(pin) is not None

    def __missing__(self, pin: Pin) -> Path:
        match = self._match(pin)
        if match is None:
            raise KeyError(pin)
        return self[match]

    def _match(self, pin: Pin) -> Pin | None:
        return next((each for each in self if pin.names(each.name, each.version)), None)


def _cached(folder: Path, target: Target) -> _Found:
    """The whole wheels of a folder that the device takes."""
    found = _Found()
    for path in sorted(folder.glob("*.whl")):
        with contextlib.suppress(ConfigurationError):
            name = WheelName.parse(path.name)
            # A power cut may leave a name without its content.
            if target.takes(name) and zipfile.is_zipfile(path):
                found[name.pin] = path
    return found


def _clear(folder: Path) -> None:
    """Removes what a killed process left behind."""
    for path in folder.glob(f"{_PARTIAL}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                shutil.rmtree(path)


def _download(
    missing: Sequence[Pin], target: Target, folder: Path, progress: Progress, index: str
) -> None:
    """Downloads what there is; what the user's indexes lack is looked for in `index`."""
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder) as name:
        partial = Path(name)
        lacking, unreached = _download_all(missing, target, partial, progress, [])
        if lacking and index and not unreached:
            options = ["--extra-index-url", index]
            found_in = index
            lacking, unreached = _download_all(lacking, target, partial, progress, options)
        else:
            found_in = ""
        # Even so: the next attempt has less to do.
        for path in partial.glob("*.whl"):
            path.replace(folder / path.name)
    if lacking:
        raise _no_wheel(lacking, target, found_in, unreached=unreached)


def _download_all(
    pins: Sequence[Pin], target: Target, folder: Path, progress: Progress, options: list[str]
) -> tuple[list[Pin], bool]:
    """Runs pip until it has all that it can find.

    Returns:
        What it could not find, and whether it could not look for it.
    """
    wanted = list(pins)
    lacking: list[Pin] = []
    while wanted:
        code, said = _pip(wanted, target, folder, progress, options)
        if code == 0:
            break
        # pip gives up at the first one that it does not find.
        names = _NOT_FOUND.findall(said)
        absent = [pin for pin in wanted if str(pin) in names]
        if not absent:
            raise _failed(said)
        if _UNREACHED.search(said):
            return lacking + wanted, True  # to try each would be a long wait for each
        lacking += absent
        wanted = [pin for pin in wanted if pin not in absent]
    return lacking, False


def _pip(
    pins: Sequence[Pin], target: Target, folder: Path, progress: Progress, options: list[str]
) -> tuple[int, str]:
    """Runs `pip download`; returns its exit code and what it said."""
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError(
            f"There is no pip beside edgelstm to fetch wheels with; run: {sys.executable} -m "
            "ensurepip"
        )
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    command += ["download", "-vv", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--implementation=cp", f"--python-version={target.python}"]
    command += [f"--platform={platform}" for platform in target.platforms]
    command += [*options, "--dest", str(folder), *map(str, pins)]
    said = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith("Collecting "):
                    progress(f"Fetching {line.split()[1]} for {target}")
        except BaseException:
            process.kill()
            raise
    return process.returncode, "".join(said)


def _no_wheel(
    lacking: Sequence[Pin], target: Target, index: str, *, unreached: bool
) -> DeploymentError:
    what = f"{_listed(lacking)} for {target.architecture}, Python {target.python} and glibc "
    what += target.glibc
    if unreached and index:
        return DeploymentError(
            f"Your package index has no wheel of {what}, and {index}, which may have it, cannot be "
            "reached from here; see to the network."
        )
    if unreached:
        return DeploymentError(
            f"The package index cannot be reached from here, to fetch {what}; see to the network, "
            "or to 'pip config list'."
        )
    where = f"neither in your package index nor in {index}" if index else "in your package index"
    return DeploymentError(
        f"There is no wheel of {what}, {where}; take another version, or name an index that has it "
        "with 'pip config set global.extra-index-url URL'."
    )


def _failed(said: str) -> DeploymentError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["it said nothing"])[-1].rstrip(".")
    return DeploymentError(f"pip could not fetch the wheels: {reason}.")


def _listed(pins: Sequence[Pin]) -> str:
    names = list(map(str, pins))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
