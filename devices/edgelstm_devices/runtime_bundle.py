"""`make_runtime`: the virtual environment of a release, and where its wheels are on the laptop."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import DeploymentError
from edgelstm_devices.own_wheel import own_wheel
from edgelstm_devices.pins import INSTALLER, Pin, locked, with_others
from edgelstm_devices.release import RuntimeSpec, StoredFile, digest_of
from edgelstm_devices.runtimes import Runtime
from edgelstm_devices.wheel_names import Target
from edgelstm_devices.wheelhouse import Progress, fetch, given_wheel

_KEPT_S = 30 * 86_400.0


@dataclass(frozen=True)
class RuntimeBundle:
    """A virtual environment to be made on devices.

    Attributes:
        spec: what is in it.
        sources: where the wheels are here, by sha256.
    """

    spec: RuntimeSpec
    sources: Mapping[str, Path]


def make_runtime(
    runtime: Runtime,
    target: Target,
    cache: Path,
    *,
    offline: bool,
    extras: Sequence[str] = (),
    progress: Progress = lambda _line: None,
) -> RuntimeBundle:
    """Puts together what a device needs to run edgelstm.

    Args:
        runtime: the TFLite runtime.
        target: the device.
        cache: keeps wheels, see `wheelhouse.default_cache`.
        offline: whether all wheels are sent; else edgelstm's own, pip's and those in `extras`.
        extras: more packages, such as plug-ins: NAME==VERSION, which may be in the place of
            another version, or the path of a wheel. What they depend on has to be there, too.
        progress: takes a line for each wheel that is downloaded.

    Raises:
        ConfigurationError: something in `extras` is neither.
        DeploymentError: there is no wheel of something, or no package index can be reached.
        MissingDependencyError: there is no pip here.
    """
    paths = [Path(text) for text in extras if text.endswith(".whl")]
    given = {given_wheel(path, target): path for path in paths}
    others = [Pin.parse(text) for text in extras if not text.endswith(".whl")]
    pins = with_others(locked(runtime.package), (*others, *given))
    installer = fetch(locked(INSTALLER), target, cache, progress)
    wheels = {path.name: path for path in given.values()} | installer
    if offline:
        lock = set(locked(runtime.package))
        own = [pin for pin in pins if pin in lock]
        wheels |= fetch(own, target, cache, progress, index=runtime.index)
        more = [pin for pin in pins if pin not in lock and pin not in given]
        # Not from another index than the user's: somebody else may have that name there.
        wheels |= fetch(more, target, cache, progress)
    edgelstm = kept_wheel(cache)
    wheels[edgelstm.name] = edgelstm
    stored = {name: StoredFile.of(path) for name, path in sorted(wheels.items())}
    parts = {
        "python": target.python,
        "architecture": target.architecture,
        "wheels": stored,
        "requirements": tuple(sorted(map(str, pins))),
        "installer": next(iter(installer)),
        "offline": offline,
    }
    version = next(pin.version for pin in pins if pin.name == runtime.package)
    named = f"{runtime.package}-{version}-py{target.python}-{target.architecture}"
    identifier = f"{re.sub('[^A-Za-z0-9_.-]', '-', named)}-{digest_of(**parts)[:8]}"
    spec = RuntimeSpec(id=identifier, **parts)  # type: ignore[arg-type]  # each has its type
    return RuntimeBundle(spec, {file.sha256: wheels[name] for name, file in stored.items()})


def kept(data: bytes, name: str, cache: Path) -> Path:
    """A file of that content in the cache, which nobody changes while it is being sent.

    Args:
        data: the content.
        name: of the file, in a folder of the content's own.
        cache: where it is kept for some weeks.

    Raises:
        DeploymentError: it cannot be written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as folder:
            path = Path(folder, name)
            path.write_bytes(data)
            return _keep(path, cache)
    except OSError as error:
        raise _no_room(cache, error) from error


@functools.cache
def kept_wheel(cache: Path) -> Path:
    """The wheel of the edgelstm that runs here, in the cache; for all devices of a fleet the same.

    Raises:
        DeploymentError: it cannot be made or written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as folder:
            return _keep(own_wheel(Path(folder)), cache)
    except OSError as error:
        raise _no_room(cache, error) from error


def _keep(path: Path, cache: Path) -> Path:
    folder = cache / "made" / StoredFile.of(path).sha256
    folder.mkdir(parents=True, exist_ok=True)
    place = path.replace(folder / path.name)
    _forget(folder.parent)
    return place


def _forget(folder: Path) -> None:
    """Removes what was not made again for some weeks."""
    for path in folder.glob("*/*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()
                path.parent.rmdir()


def _no_room(cache: Path, error: OSError) -> DeploymentError:
    return DeploymentError(
        f"Nothing can be kept in {cache}: {error.strerror or error}; make room there, or set "
        "XDG_CACHE_HOME to another folder."
    )
