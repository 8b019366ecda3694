from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgelstm.errors import ConfigurationError
from edgelstm_devices.profiles import find_profile, load_profiles, profile_text, user_folder
from edgelstm_devices.runtimes import ARCHITECTURES, Runtime, load_runtimes, satisfies

TEXT = """\
title = "A board"
architecture = "aarch64"
packages = ["ai-edge-litert"]
recipe = "int8-float"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a folder for profiles of one's own."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "settings")}
    user_folder(environ).mkdir(parents=True)
    return environ


def own(environ: dict[str, str], name: str, text: str) -> Path:
    path = user_folder(environ) / f"{name}.toml"
    path.write_text(text)
    return path


# Reading


def test_little_needs_to_be_said(environ: dict[str, str]) -> None:
    path = own(environ, "board", TEXT)
    profile = find_profile("board", environ)
    assert profile == find_profile(str(path), {})
    assert profile == load_profiles(environ)["board"]
    assert (profile.name, profile.title, profile.path) == ("board", "A board", path)
    assert profile.runtimes == (load_runtimes()["ai-edge-litert", "aarch64"],)
    assert (profile.memory_mb, profile.cores, profile.threads) == ((), None, 1)
    assert (profile.serial, profile.delegates, profile.models) == ((), (), ())
    assert (profile.accelerator, profile.note, profile.sources) == ("", "", {})


def test_much_may_be_said(environ: dict[str, str]) -> None:
    text = (
        TEXT
        + """\
accelerator = "edgetpu"
delegates = ["edgetpu:usb:0"]
memory_mb = [512]
cores = 4
threads = 2
serial = ["/dev/ttymxc*"]
models = ["ACME"]
note = "Loud."
[sources]
memory_mb = "its label"
"""
    )
    own(environ, "board", text)
    profile = find_profile("board", environ)
    assert (profile.memory_mb, profile.cores, profile.threads) == ((512,), 4, 2)
    assert (profile.serial, profile.models) == (("/dev/ttymxc*",), ("ACME",))
    assert profile.sources == {"memory_mb": "its label"}
    assert profile.likeness("ACME board rev 2", "aarch64") == 4


def test_ones_own_comes_first(environ: dict[str, str]) -> None:
    own(environ, "zoo", TEXT + 'models = ["Raspberry Pi 4"]\n')
    own(environ, "pi5", TEXT)
    profiles = load_profiles(environ)
    assert list(profiles)[:3] == ["pi5", "zoo", "aarch64"]
    assert profiles["pi5"].title == "A board"
    # Of those that are as much alike, max takes the first.
    alike = max(
        profiles.values(), key=lambda p: p.likeness("Raspberry Pi 4 Model B Rev 1.5", "aarch64")
    )
    assert alike.name == "zoo"


def test_ones_own_without_models_is_taken_by_name_only(environ: dict[str, str]) -> None:
    own(environ, "board", TEXT)
    assert find_profile("board", environ).likeness("", "aarch64") == -1


def test_a_broken_neighbour_is_only_told_where_all_are_asked_for(environ: dict[str, str]) -> None:
    path = own(environ, "broken", "title = ")
    assert find_profile("pi4", environ).name == "pi4"
    with pytest.raises(ConfigurationError, match=re.escape(str(path))):
        load_profiles(environ)


def test_what_is_no_profile_is_left_alone(environ: dict[str, str]) -> None:
    own(environ, ".half.written", "title = ")
    (user_folder(environ) / "notes.txt").write_text("title = ")
    assert load_profiles(environ) == load_profiles({})


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CONFIG_HOME": "/settings", "HOME": "/home/ann"}, "/settings/edgelstm/devices"),
        ({"HOME": "/home/ann"}, "/home/ann/.config/edgelstm/devices"),
        # A relative path is none, says the XDG Base Directory Specification.
        ({"XDG_CONFIG_HOME": "x", "HOME": "/home/ann"}, "/home/ann/.config/edgelstm/devices"),
    ],
)
def test_where_ones_own_are(environ: dict[str, str], folder: str) -> None:
    assert user_folder(environ) == Path(folder)


def test_the_text_of_a_profile(environ: dict[str, str]) -> None:
    path = own(environ, "board", TEXT)
    assert profile_text("board", environ) == profile_text(str(path), {}) == TEXT
    assert profile_text("pi4", environ).startswith('title = "Raspberry Pi 4')


# Mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "FILE, line 1: This is not TOML, at the end of the file: Invalid value."),
        (TEXT + "[sources\n", "FILE, line 5: This is not TOML, in column 9: Expected .*"),
        (TEXT.replace("recipe", "recpie"), r"FILE, line 4: .* 'recpie'; did you mean 'recipe'\?"),
        (TEXT + 'colour = "green"', r"FILE, line 5: there is no key 'colour'; it may have .*\."),
        (TEXT + 'runtimes = ["x"]', "FILE, line 5: there is no key 'runtimes'.*"),
        (TEXT.replace('recipe = "int8-float"', ""), "FILE: the file needs the key 'recipe', .*"),
        (TEXT.replace('"aarch64"', "64"), "FILE, line 2: architecture is 64; it must be one of .*"),
        (TEXT.replace('"aarch64"', '"arm64"'), "FILE, line 2: architecture is none of 'aarch64'.*"),
        (
            TEXT.replace('"int8-float"', '"int8-flaot"'),
            r"FILE, line 4: recipe is none of 'int8', .*; did you mean 'int8-float'\?",
        ),
        (TEXT + 'accelerator = "gpu"', "FILE, line 5: accelerator is none of '', 'edgetpu'.*"),
        (TEXT + "memory_mb = [512, 0]", "FILE, line 5: memory_mb is 0; it must be at least 1."),
        (TEXT + "memory_mb = 512", r"FILE, line 5: memory_mb is 512; it must be a list.*"),
        (TEXT + "cores = 0", "FILE, line 5: cores is 0; it must be at least 1."),
        (TEXT + "threads = 0", "FILE, line 5: threads is 0; it must be at least 1."),
        (
            TEXT.replace("ai-edge-litert", "ai-edge-lite"),
            r"FILE, line 3: 'packages' has 'ai-edge-lite', .*; did you mean 'ai-edge-litert'\?",
        ),
        (
            TEXT.replace("aarch64", "armv7l"),
            "FILE, line 3: 'packages' has 'ai-edge-litert', of which no wheels for armv7l are "
            "known; there are of tflite-runtime.",
        ),
        (TEXT.replace('["ai-edge-litert"]', "[]"), "FILE, line 3: 'packages' is empty; there .*"),
        (TEXT + 'delegates = ["gpu"]', "FILE, line 5: 'delegates': No delegate is called 'gpu'.*"),
        (TEXT + 'serial = ["ttyS0"]', "FILE, line 5: 'serial' has 'ttyS0', which is no port.*"),
        (
            TEXT + '[sources]\nmemory = "x"',
            r"FILE, line 5: 'sources' has 'memory', which is no figure; did you mean 'memory_mb'\?",
        ),
        ("\xff", "FILE is not text in UTF-8; save it anew as that."),
        ("cores = " + "9" * 5000, "FILE has a value that no profile could have."),
    ],
)
def test_a_mistake_is_told_with_its_line(environ: dict[str, str], text: str, message: str) -> None:
    path = own(environ, "board", "")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as error:
        find_profile("board", environ)
    told = str(error.value).replace(str(path), "FILE")
    assert re.fullmatch(message, told), told


def test_all_mistakes_are_told_at_once(environ: dict[str, str]) -> None:
    own(environ, "board", TEXT.replace("title", "titel") + "cores = 0\n")
    with pytest.raises(ConfigurationError) as error:
        find_profile("board", environ)
    assert len(str(error.value).splitlines()) == 2


def test_a_file_with_no_name_for_a_device(environ: dict[str, str]) -> None:
    path = own(environ, "my board", TEXT)
    with pytest.raises(ConfigurationError, match="cannot be that of a device") as error:
        find_profile(str(path), {})
    assert "my board" in str(error.value)


# Runtimes


def test_there_are_runtimes_for_each_architecture() -> None:
    assert {architecture for _, architecture in load_runtimes()} == set(ARCHITECTURES)
    assert ("ai-edge-litert", "armv7l") not in load_runtimes()


def test_a_wheel_needs_at_least_the_glibc_of_its_tag() -> None:
    """Its libraries may ask for more than its tag says."""
    for runtime in load_runtimes().values():
        for tag in runtime.tags:
            assert tag.endswith(f"_{runtime.architecture}")
            (minor,) = re.findall(r"manylinux_2_(\d+)_", tag) or ["17"]
            assert runtime.takes_glibc(runtime.glibc)
            assert int(minor) <= int(runtime.glibc.split(".")[1])


@pytest.mark.parametrize(
    ("package", "architecture", "python", "glibc", "fits"),
    [
        ("ai-edge-litert", "aarch64", "3.11.2", "2.36", True),  # Debian 12
        ("ai-edge-litert", "aarch64", "3.13.5", "2.41", True),  # Debian 13
        ("ai-edge-litert", "aarch64", "3.9.2", "2.31", False),  # Debian 11
        ("ai-edge-litert", "aarch64", "3.11.9", "2.31", False),  # with a Python of its own
        ("ai-edge-litert", "x86_64", "3.11.9", "2.31", True),
        ("ai-edge-litert", "x86_64", "3.15.0", "2.41", False),
        ("tflite-runtime", "armv7l", "3.11.2", "2.36", True),
        ("tflite-runtime", "armv7l", "3.13.5", "2.41", False),
    ],
)
def test_which_systems_a_runtime_takes(
    package: str, architecture: str, python: str, glibc: str, fits: bool
) -> None:
    runtime: Runtime = load_runtimes()[package, architecture]
    assert (runtime.takes_python(python) and runtime.takes_glibc(glibc)) is fits


@pytest.mark.parametrize(
    ("version", "limits", "within"),
    [
        ("3.11.2", "==3.11", True),
        ("3.1", "==3.11", False),
        ("3.11", "==3.11.2", False),
        ("3.11", "==3.11.0", True),
        ("3.9", ">=3.11", False),  # as numbers, not as texts
        ("3.12.0rc1", ">=3.11,<3.15", True),
        ("3.15", ">=3.11, <3.15", False),
        ("3.11.9", "<=3.11", True),
        ("3.11.9", ">3.11", False),
        ("2.36-9+deb12u1", ">=2.34", True),
    ],
)
def test_limits_of_versions(version: str, limits: str, within: bool) -> None:
    assert satisfies(version, limits) is within


@pytest.mark.parametrize(("version", "limits"), [("new", ">=3"), ("3.11", "~=3"), ("3.11", "")])
def test_what_is_no_version_or_no_limit(version: str, limits: str) -> None:
    with pytest.raises(ConfigurationError, match=r"it must be such as"):
        satisfies(version, limits)
