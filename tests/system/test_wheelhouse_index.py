"""Wheels for a device, by the real pip: from small indexes made here, and from the user's own."""

from __future__ import annotations

import http.server
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import DeploymentError
from edgelstm_devices.pins import INSTALLER, Pin, locked
from edgelstm_devices.runtime_bundle import make_runtime
from edgelstm_devices.runtimes import load_runtimes
from edgelstm_devices.wheel_names import Target, WheelName
from edgelstm_devices.wheelhouse import fetch

TINY = Path(__file__).parents[1] / "data/tiny.tflite"
PI = Target("3.11", "armv7l", "2.36")
HERE = Target(
    "{}.{}".format(*sys.version_info),
    platform.machine(),
    platform.libc_ver()[1],
)


def add(index: Path, name: str, version: str, tag: str = "py3-none-any") -> Path:
    """Adds a wheel to an index (PEP 503)."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = f"{module}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", metadata + "Requires-Dist: not-to-be-had\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{module}.py", os.urandom(200_000))
    links = [f'<a href="{each.name}">{each.name}</a>' for each in sorted(folder.glob("*.whl"))]
    (folder / "index.html").write_text("<!DOCTYPE html>\n" + "\n".join(links))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only index of the user."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_INDEX_URL", folder.as_uri())
    return folder


@contextmanager
def serving(index: Path, *, stall: bool = False) -> Iterator[tuple[str, threading.Event]]:
    """Serves an index; perhaps the first half of a wheel comes, and then nothing."""
    reached, over = threading.Event(), threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(index))

        def copyfile(self, source: Any, outputfile: Any) -> None:
            data = source.read()
            stalled = stall and data.startswith(b"PK")
            outputfile.write(data[: len(data) // 2] if stalled else data)
            outputfile.flush()
            if stalled:
                reached.set()
                over.wait(60)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", reached
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_wheels_for_the_device_are_brought_and_kept(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(index, "fast-maths", "1.2", "cp311-cp311-manylinux_2_31_armv7l")
    add(index, "fast-maths", "1.2", "cp311-cp311-manylinux_2_38_armv7l")
    add(index, "fast-maths", "1.2", "cp312-cp312-manylinux_2_31_armv7l")
    add(index, "fast-maths", "1.2", "cp311-cp311-manylinux_2_17_x86_64")
    add(index, "fast-maths", "1.3")
    add(index, "from-piwheels", "2.0.0", "cp311-cp311-linux_armv7l")
    pins = [Pin("fast-maths", "1.2"), Pin("from-piwheels", "2.0")]
    told: list[str] = []
    with serving(index) as (url, _):
        monkeypatch.setenv("PIP_INDEX_URL", url)
        found = fetch(pins, PI, tmp_path / "cache", told.append)
    assert found.keys() == {
        "fast_maths-1.2-cp311-cp311-manylinux_2_31_armv7l.whl",
        "from_piwheels-2.0.0-cp311-cp311-linux_armv7l.whl",
    }
    assert told == [f"Fetching {pin} for armv7l and Python 3.11" for pin in pins]
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert fetch(pins, PI, tmp_path / "cache", told.append) == found
    assert len(told) == 2, "nothing was fetched again"


def test_all_that_lack_a_wheel_are_told_at_once(index: Path, tmp_path: Path) -> None:
    add(index, "fast-maths", "1.2", "cp311-cp311-manylinux_2_17_x86_64")
    add(index, "pure", "1.0")
    (index / "source-only").mkdir()
    (index / "source-only/source-only-1.0.tar.gz").write_bytes(b"")
    pins = [Pin("fast-maths", "1.2"), Pin("pure", "1.0"), Pin("source-only", "1.0")]
    with pytest.raises(DeploymentError) as error:
        fetch(pins, PI, tmp_path / "cache")
    assert str(error.value) == (
        "There is no wheel of fast-maths==1.2 and source-only==1.0 for armv7l, Python 3.11 and "
        "glibc 2.36, in your package index; take another version, or name an index that has it "
        "with 'pip config set global.extra-index-url URL'."
    )
    (kept,) = (tmp_path / "cache").rglob("*.whl")
    assert kept.name == "pure-1.0-py3-none-any.whl"


def test_another_index_is_asked_for_what_the_users_lacks(index: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    add(index, "pure", "1.0")
    add(other, "pure", "1.0", "cp311-cp311-linux_armv7l")
    add(other, "fast-maths", "1.2", "cp311-cp311-linux_armv7l")
    pins = [Pin("pure", "1.0"), Pin("fast-maths", "1.2")]
    found = fetch(pins, PI, tmp_path / "cache", index=other.as_uri())
    assert found.keys() == {
        "pure-1.0-py3-none-any.whl",
        "fast_maths-1.2-cp311-cp311-linux_armv7l.whl",
    }
    with pytest.raises(DeploymentError, match=r"neither in your package index nor in file:.*other"):
        fetch([Pin("gone", "1.0")], PI, tmp_path / "cache", index=other.as_uri())
    away = "http://127.0.0.1:9/simple"
    with pytest.raises(DeploymentError, match=rf"no wheel of gone==1.0 .*{away}.* be reached"):
        fetch([Pin("gone", "1.0")], PI, tmp_path / "cache", index=away)


def test_what_the_user_adds_comes_from_the_users_index_alone(index: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    runtime = replace(load_runtimes()["tflite-runtime", "armv7l"], index=other.as_uri())
    add(index, *vars(locked(INSTALLER)[0]).values())
    for pin in locked("tflite-runtime"):
        add(other, pin.name, pin.version)
    add(other, "our-secret-plug-in", "9.9")
    extras = ["our-secret-plug-in==9.9"]
    with pytest.raises(DeploymentError, match=r"no wheel of our-secret-plug-in==9\.9 .* in your"):
        make_runtime(runtime, PI, tmp_path / "cache", offline=True, extras=extras)
    add(index, "our-secret-plug-in", "9.9", "py39.py3-none-any")
    made = make_runtime(runtime, PI, tmp_path / "cache", offline=True, extras=extras)
    assert "our_secret_plug_in-9.9-py39.py3-none-any.whl" in made.spec.wheels


def test_an_index_that_is_away_is_told(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(DeploymentError) as error:
        fetch([Pin("a", "1"), Pin("b", "1")], PI, tmp_path / "cache")
    assert str(error.value) == (
        "The package index cannot be reached from here, to fetch a==1 and b==1 for armv7l, Python "
        "3.11 and glibc 2.36; see to the network, or to 'pip config list'."
    )
    add(index, "a", "1")
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
    with pytest.raises(DeploymentError, match=r"^pip could not fetch the wheels: Hashes .*\.$"):
        fetch([Pin("a", "1")], PI, tmp_path / "cache")


FETCH = """
import sys
from pathlib import Path
from edgelstm_devices.pins import Pin
from edgelstm_devices.wheel_names import Target
from edgelstm_devices.wheelhouse import fetch
print(fetch([Pin("big", "1.0")], Target("3.11", "armv7l", "2.36"), Path(sys.argv[1])))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_cut_off_leaves_no_half_wheel(
    index: Path, tmp_path: Path, number: signal.Signals
) -> None:
    wheel = add(index, "big", "1.0")
    cache = tmp_path / "cache"
    with serving(index, stall=True) as (url, reached):
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, str(cache)],
            env={**os.environ, "PIP_INDEX_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert reached.wait(60)
            time.sleep(0.2)
            # As Ctrl-C does, or a lost session: to all of them.
            os.killpg(process.pid, number)
            process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    assert process.returncode != 0
    assert not list(cache.glob("wheels/*/*.whl"))
    leftover = list(cache.glob("wheels/*/.fetching-*"))
    assert bool(leftover) == (number == signal.SIGKILL)
    for path in leftover:
        os.utime(path, (0, 0))
    (found,) = fetch([Pin("big", "1.0")], PI, cache).values()
    assert found.read_bytes() == wheel.read_bytes()
    assert not list(cache.glob("wheels/*/.*")), "what was left is cleared away"


def test_the_wheels_of_every_runtime_are_in_the_users_index(tmp_path: Path) -> None:
    """Those of 32-bit ARM are not: numpy, tornado and cffi are on piwheels.org alone."""
    for (_, architecture), runtime in load_runtimes().items():
        if runtime.index:
            continue
        target = Target("3.11", architecture, "2.36")
        spec = make_runtime(runtime, target, tmp_path, offline=True).spec
        assert len(spec.wheels) == len(spec.requirements) + 2
        for name in spec.wheels:
            assert target.takes(WheelName.parse(name))
        size = sum(file.size for file in spec.wheels.values())
        assert 20_000_000 < size < 100_000_000


def test_a_clean_environment_runs_with_what_was_fetched_and_nothing_else(
    tmp_path: Path,
) -> None:
    runtime = load_runtimes()["ai-edge-litert", HERE.architecture]
    made = make_runtime(runtime, HERE, tmp_path / "cache", offline=True)
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, file in made.spec.wheels.items():
        shutil.copyfile(made.sources[file.sha256], folder / name)
    # As the device does: pip is not installed there, but run from its wheel.
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    pip: list[str | Path] = [python, f"{folder / made.spec.installer}/pip", "--isolated"]
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            list(map(str, command)),
            env=clean,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (own,) = folder.glob("edgelstm-*.whl")
    run(
        *pip,
        "install",
        "--no-index",
        "--no-deps",
        "--no-cache-dir",
        f"--find-links={folder}",
        *made.spec.requirements,
        own,
    )
    assert run(*pip, "check").strip() == "No broken requirements found."
    edgelstm = tmp_path / "env/bin/edgelstm"
    assert run(edgelstm, "--version").startswith("edgelstm, version ")
    assert "No problem." in run(edgelstm, "doctor")
    assert "golden runs hold" in run(edgelstm, "verify", TINY)
    assert "pi4" in run(edgelstm, "devices")
    code = (
        "import sys; from edgelstm_devices.own_wheel import own_wheel; from pathlib import Path; "
    )
    run(python, "-c", f"{code}own_wheel(Path(sys.argv[1]))", tmp_path)
    # What is deployed from there is the same again.
    assert (tmp_path / own.name).read_bytes() == own.read_bytes()
