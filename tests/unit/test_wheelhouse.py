from __future__ import annotations

import re
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import cpython_tags, parse_tag

from edgelstm.errors import ConfigurationError, DeploymentError
from edgelstm_devices import wheelhouse
from edgelstm_devices.pins import INSTALLER, Pin, locked, normalised, with_others
from edgelstm_devices.runtimes import load_runtimes
from edgelstm_devices.wheel_names import Target, WheelName
from edgelstm_devices.wheelhouse import default_cache, fetch, given_wheel

TESTS = Path(__file__).parents[1]
PI = Target("3.11.2", "aarch64", "2.36")


def make_wheel(folder: Path, name: str, tag: str = "py3-none-any") -> Path:
    path = folder / f"{name}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.py", "")
    return path


def pins_of(path: Path) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    pins = [Pin.parse(line) for line in lines if line]
    return {pin.name: pin.version for pin in pins}


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
def test_a_lock_is_what_the_tests_run_with(runtime: str) -> None:
    tested = pins_of(TESTS.parent / "constraints.txt")
    if runtime == "tflite-runtime":
        tested |= pins_of(TESTS / "requirements-tflite-runtime.txt")
    lock = {pin.name: pin.version for pin in locked(runtime)}
    assert len(lock) == len(locked(runtime))
    assert lock == {name: tested.get(name) for name in lock}


@pytest.mark.parametrize(
    ("runtime", "extras"),
    [
        ("ai-edge-litert", {"mqtt", "console", "metrics", "dashboard", "sign", ""}),
        ("tflite-runtime", {"mqtt", "console", "metrics", "dashboard", "sign", "tflite-runtime"}),
    ],
)
def test_a_lock_has_all_that_its_packages_need_and_no_more(runtime: str, extras: set[str]) -> None:
    """By what the packages here say, for every Python and architecture of the runtime."""
    lock = {pin.name: pin.version for pin in locked(runtime)}
    needed = set()
    of_runtime = [r for (package, _), r in load_runtimes().items() if package == runtime]
    for python in ("3.11", "3.12", "3.13", "3.14"):
        for machine in (r.architecture for r in of_runtime if r.takes_python(python)):
            environment = {
                "python_version": python,
                "python_full_version": f"{python}.2",
                "platform_machine": machine,
                "sys_platform": "linux",
                "platform_system": "Linux",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
            }
            needed |= closure(runtime, extras, environment, lock)
    assert needed == lock.keys()


def closure(
    runtime: str, extras: set[str], environment: dict[str, str], lock: dict[str, str]
) -> set[str]:
    found: set[str] = set()
    todo = [("edgelstm", extras)]
    while todo:
        name, wanted = todo.pop()
        # Not here, but in an environment of its own; it needs numpy alone.
        texts = ["numpy>=1.23.2"] if name == "tflite-runtime" else requires(name) or []
        for requirement in map(Requirement, texts):
            marker = requirement.marker
            if marker and not any(
                marker.evaluate({**environment, "extra": extra}) for extra in wanted | {""}
            ):
                continue
            needed = normalised(requirement.name)
            if needed == "ai-edge-litert" != runtime:
                continue  # where it is not to be had, or not wanted, the other takes its place
            assert needed in lock, f"{name} needs {needed}"
            assert requirement.specifier.contains(lock[needed]), f"{name} needs {requirement}"
            if needed not in found:
                found.add(needed)
                todo.append((needed, set()))
    return found


def test_a_lock_is_as_old_as_the_profiles_say() -> None:
    for (package, _), runtime in load_runtimes().items():
        assert Pin(package, runtime.version) in locked(package)
    assert [pin.name for pin in locked(INSTALLER)] == ["pip"]
    with pytest.raises(ConfigurationError, match="runtime 'onnx'; tell"):
        locked("onnx")


def test_pins() -> None:
    assert Pin.parse(" Foo_Bar.baz==1.0 ") == Pin("foo-bar-baz", "1.0")
    assert Pin("foo", "1.0").names("Foo", "1.0.0")
    assert not Pin("foo", "1.0").names("foo", "1.0.1")
    assert not Pin("foo", "1.0").names("food", "1.0")
    for text in ("numpy", "numpy>=2", "numpy==2.*", "numpy==", "--index-url==3", "a b==1"):
        with pytest.raises(ConfigurationError, match="NAME==VERSION"):
            Pin.parse(text)
    both = with_others((Pin("a", "1"), Pin("b", "1")), (Pin("b", "2"), Pin("c", "3")))
    assert both == (Pin("a", "1"), Pin("b", "2"), Pin("c", "3"))


def test_platforms_are_those_that_the_c_library_of_the_device_allows() -> None:
    assert PI.platforms[0] == "manylinux_2_36_aarch64"
    assert PI.platforms[-3:] == (
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
        "linux_aarch64",
    )
    old = Target("3.11", "x86_64", "2.17")
    assert old.platforms[0] == "manylinux_2_17_x86_64"
    assert {"manylinux2010_x86_64", "manylinux_2_5_x86_64"} <= set(old.platforms)
    assert "manylinux_2_28_x86_64" not in old.platforms
    assert PI.key == "cp311-aarch64-glibc2.36"


@pytest.mark.parametrize(
    ("python", "glibc", "message"),
    [
        ("2.7.18", "2.36", "has Python 2.7.18; install Python 3.11"),
        ("", "2.36", "has Python in no version"),
        ("3.11", "musl 1.2.5", "C library musl 1.2.5"),
        ("3.11", "", "C library of no known version"),
    ],
)
def test_devices_without_wheels(python: str, glibc: str, message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        Target(python, "aarch64", glibc)


TAGS = [
    "py3-none-any",
    "py2.py3-none-any",
    "py2-none-any",
    "py311-none-any",
    "py312-none-any",
    "cp311-cp311-manylinux_2_28_aarch64",
    "cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64",
    "cp311-cp311-manylinux_2_38_aarch64",
    "cp311-cp311-manylinux_2_28_x86_64",
    "cp311-cp311-musllinux_1_2_aarch64",
    "cp311-cp311-macosx_11_0_arm64",
    "cp311-cp311-linux_aarch64",
    "cp312-cp312-manylinux_2_28_aarch64",
    "cp310-cp310-manylinux_2_28_aarch64",
    "cp39-abi3-manylinux_2_28_aarch64",
    "cp311-abi3-manylinux_2_28_aarch64",
    "cp312-abi3-manylinux_2_28_aarch64",
    "cp311-none-manylinux_2_28_aarch64",
    "cp310-none-manylinux_2_28_aarch64",
    "py3-none-manylinux_2_28_aarch64",
    "py3-none-linux_armv7l",
    "pp310-pypy310_pp73-manylinux_2_28_aarch64",
    "cp313-cp313t-manylinux_2_28_aarch64",
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_device_takes_the_wheels_that_pip_there_would_take(tag: str) -> None:
    abis = ["cp311", "abi3", "none"]
    there = set(cpython_tags((3, 11), abis, PI.platforms))
    there |= set(parse_tag("py311.py310.py39.py3-none-" + ".".join([*PI.platforms, "any"])))
    assert PI.takes(WheelName.parse(f"x-1.0-{tag}.whl")) == bool(parse_tag(tag) & there)


def test_names_of_wheels() -> None:
    name = WheelName.parse("Foo_bar-1.0-1-py2.py3-none-any.whl")
    assert (name.pin, name.pythons) == (Pin("foo-bar", "1.0"), ("py2", "py3"))
    for wrong in ("foo.whl", "foo-1.0.tar.gz", "foo-1.0-py3-none-any.zip", "foo--py3-none-any.whl"):
        with pytest.raises(ConfigurationError, match="do not rename wheels"):
            WheelName.parse(wrong)


def test_what_was_fetched_before_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def no_pip(pins: list[Pin], *_: object) -> tuple[int, str]:
        asked.append(list(map(str, pins)))
        return 1, f"ERROR: No matching distribution found for {pins[0]}\n"

    monkeypatch.setattr(wheelhouse, "_pip", no_pip)
    folder = tmp_path / "wheels" / PI.key
    folder.mkdir(parents=True)
    thing = make_wheel(folder, "some_thing-1.0.0")
    make_wheel(folder, "other-1.0", "cp312-cp312-manylinux_2_28_aarch64")
    half = make_wheel(folder, "half-1.0")
    half.write_bytes(half.read_bytes()[:20])
    assert fetch([Pin("some-thing", "1.0")], PI, tmp_path) == {thing.name: thing}
    assert not asked
    wanted = [Pin("some-thing", "1.0"), Pin("half", "1.0"), Pin("other", "1.0")]
    with pytest.raises(DeploymentError, match=re.escape("half==1.0 and other==1.0 for aarch64")):
        fetch(wanted, PI, tmp_path)
    assert asked == [["half==1.0", "other==1.0"], ["other==1.0"]]
    assert not list(folder.glob(".*")), "nothing half-fetched is left"


def test_a_wheel_of_the_users_own(tmp_path: Path) -> None:
    assert given_wheel(make_wheel(tmp_path, "plug_in-0.3"), PI) == Pin("plug-in", "0.3")
    with pytest.raises(ConfigurationError, match="There is no file"):
        given_wheel(tmp_path / "gone-1.0-py3-none-any.whl", PI)
    (tmp_path / "bad-1.0-py3-none-any.whl").write_text("<html>")
    with pytest.raises(ConfigurationError, match="damaged or no wheel"):
        given_wheel(tmp_path / "bad-1.0-py3-none-any.whl", PI)
    mine = make_wheel(tmp_path, "plug-0.3", "cp311-cp311-manylinux_2_28_x86_64")
    with pytest.raises(DeploymentError, match=r"not for aarch64 and Python 3.11; take a wheel of"):
        given_wheel(mine, PI)


def test_a_full_or_closed_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "wheels").write_text("a file in the way")
    with pytest.raises(DeploymentError, match=r"cannot be kept in .*XDG_CACHE_HOME"):
        fetch([Pin("x", "1")], PI, tmp_path)


def test_where_wheels_are_kept() -> None:
    assert default_cache({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/edgelstm")
    assert default_cache({"HOME": "/home/ann"}) == Path("/home/ann/.cache/edgelstm")
    relative = {"XDG_CACHE_HOME": "cache", "HOME": "/home/ann"}
    assert default_cache(relative) == Path("/home/ann/.cache/edgelstm")


def test_the_version_here_is_that_of_the_lock() -> None:
    for pin in locked("ai-edge-litert"):
        assert pin.names(pin.name, version(pin.name))
