from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgelstm.cli import main
from edgelstm.errors import ConfigurationError
from edgelstm_devices.profiles import RECIPES, Profile, find_profile, load_profiles
from edgelstm_quantize import recipes

SHIPPED: dict[str, str] = {}
"""An environment of nobody, without profiles of one's own."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's own profiles would be."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return tmp_path / "settings/edgelstm/devices"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["devices", *map(str, arguments)])


def refusal(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


# What the profiles say


def test_these_devices_are_known() -> None:
    assert set(load_profiles()) == {
        "aarch64",
        "armv7",
        "coral-dev-board",
        "coral-m2",
        "coral-usb",
        "pi-32bit",
        "pi3",
        "pi4",
        "pi5",
        "x86-64",
        "zero2w",
        "zero2w-32bit",
    }


def test_default_recipes_fit_the_runtime() -> None:
    for profile in load_profiles().values():
        if profile.accelerator == "edgetpu":
            expected = "int8"  # it computes in nothing else
        elif profile.runtime == "tflite-runtime":
            expected = "int8-weight"  # it gets per-channel dynamic layers silently wrong
        else:
            expected = "int8-float"
        assert profile.recipe == expected, profile.name


def test_the_runtime_is_one_that_exists_for_the_architecture() -> None:
    for profile in load_profiles().values():
        # ai-edge-litert has no wheels for 32-bit ARM.
        old = profile.architecture == "armv7l"
        assert profile.runtime == ("tflite-runtime" if old else "ai-edge-litert"), profile.name
        assert profile.bits == (32 if old else 64)
        assert profile.requirement == ("edgelstm[tflite-runtime]" if old else "edgelstm")
        assert profile.python == ("==3.11" if old else ">=3.11,<3.15")
        assert [runtime.package for runtime in profile.runtimes] == list(profile.packages)
        assert all(runtime.architecture == profile.architecture for runtime in profile.runtimes)


def test_every_recipe_of_the_converter_is_known_here() -> None:
    assert recipes.RECIPES.keys() <= set(RECIPES)


def test_coral_devices_are_those_with_an_edge_tpu() -> None:
    coral = {name for name, p in load_profiles().items() if p.accelerator == "edgetpu"}
    assert coral == {"coral-usb", "coral-m2", "coral-dev-board"}
    for name in coral:
        profile = find_profile(name)
        assert "edgetpu" in profile.delegates
        assert "coral.ai/docs/" in profile.sources["accelerator"]
        assert "no device seen" in profile.sources["accelerator"]
    assert not any(p.delegates for p in load_profiles().values() if not p.accelerator)


def test_the_coral_board_says_that_its_own_system_is_too_old() -> None:
    assert "Python 3.7" in find_profile("coral-dev-board").note


UNSOURCED = {"name", "title", "note", "sources", "path", "runtimes", "package", "architecture"}


@pytest.mark.parametrize("name", load_profiles(SHIPPED))
def test_every_figure_has_its_source(name: str) -> None:
    profile = find_profile(name)
    told = set(profile.to_dict()) - {"bits"} - UNSOURCED
    figures = {key for key in told if getattr(profile, key) not in ((), "", None)}
    assert set(profile.sources) == figures | {"architecture"}
    for runtime in profile.runtimes:
        figures = {key for key, value in vars(runtime).items() if value not in ((), "")}
        assert set(runtime.sources) == figures - UNSOURCED
    sources = [
        *profile.sources.values(),
        *(s for r in profile.runtimes for s in r.sources.values()),
    ]
    assert all(len(source) > 8 for source in sources)


# Which of them a device is


@pytest.mark.parametrize(
    ("model", "architecture", "name"),
    [
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "aarch64", "pi3"),
        ("Raspberry Pi Compute Module 3 Plus Rev 1.0", "aarch64", "pi3"),
        ("Raspberry Pi 4 Model B Rev 1.5\0", "aarch64", "pi4"),
        ("Raspberry Pi 400 Rev 1.0", "aarch64", "pi4"),
        ("Raspberry Pi Compute Module 4 Rev 1.0", "aarch64", "pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi 500 Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "aarch64", "zero2w"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "armv7l", "zero2w-32bit"),
        ("Raspberry Pi 4 Model B Rev 1.4", "armv7l", "pi-32bit"),
        ("Raspberry Pi 2 Model B Rev 1.2", "aarch64", "aarch64"),
        ("Freescale i.MX8MQ Phanbell", "aarch64", "coral-dev-board"),
        ("", "aarch64", "aarch64"),
        ("BeagleBone Black", "armv7l", "armv7"),
        ("", "x86_64", "x86-64"),
    ],
)
def test_the_most_alike_profile_is_the_right_one(model: str, architecture: str, name: str) -> None:
    profiles = load_profiles().values()
    assert max(profiles, key=lambda p: p.likeness(model, architecture)).name == name


def test_a_machine_of_another_architecture_is_like_none() -> None:
    assert {p.likeness("", "armv6l") for p in load_profiles().values()} == {-1}


# The commands


def test_a_profile_is_found_by_its_name() -> None:
    assert find_profile("pi4") == load_profiles()["pi4"]
    with pytest.raises(ConfigurationError, match=r"'pi9'; the known ones are .*pi4, pi5") as error:
        find_profile("pi9")
    assert "coral-usb" in str(error.value)


def test_devices_are_listed() -> None:
    output = invoke().stdout
    rows = {line.split()[0]: line for line in output.splitlines()}
    assert rows.keys() == load_profiles().keys()
    assert "int8-float" in rows["pi4"]
    assert "1 GB to 8 GB" in rows["pi4"]
    assert "Edge TPU" not in rows["pi4"]
    assert rows["coral-dev-board"].endswith(", Edge TPU")
    assert len({line.index(load_profiles()[name].recipe) for name, line in rows.items()}) == 1


def test_devices_are_listed_for_programs() -> None:
    listed = json.loads(invoke("--json").stdout)
    assert [one["name"] for one in listed] == list(load_profiles())


@pytest.mark.parametrize("name", load_profiles(SHIPPED))
def test_a_device_is_shown_with_all_sources(name: str) -> None:
    profile = find_profile(name)
    result = invoke("show", name)
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == f"{name}: {profile.title}"
    shown = [line.removeprefix("from ") for line in lines if line.startswith("from ")]
    assert set(profile.sources.values()) <= set(shown)
    for runtime in profile.runtimes:
        # Of the version the package's line has the figure, and the extra is in what is installed.
        sources = {s for k, s in runtime.sources.items() if k not in ("version", "extra")}
        assert sources <= set(shown)
        assert f"{runtime.package} {runtime.version} on {runtime.architecture}" in lines
        assert any(f"pip install '{runtime.requirement}'" in line for line in lines)
    if profile.note:
        assert lines[-1] == profile.note


def test_a_device_is_shown_for_programs() -> None:
    shown = json.loads(invoke("show", "pi4", "--json").stdout)
    assert shown["name"] == "pi4"
    assert shown["bits"] == 64
    assert shown["memory_mb"] == [1024, 2048, 4096, 8192]
    assert shown["path"] is None
    assert shown["runtimes"][0]["package"] == "ai-edge-litert"
    assert shown["runtimes"][0]["glibc"] == "2.34"
    assert shown["sources"].keys() >= {"memory_mb", "recipe"}


def test_what_is_not_known_is_not_shown() -> None:
    assert "memory" not in invoke("show", "x86-64").stdout
    assert "cores" not in invoke("show", "x86-64").stdout


# A device of one's own


def test_a_new_device_is_written_to_be_changed(own_folder: Path) -> None:
    result = invoke("new", "pump-box", "--like", "pi4")
    path = own_folder / "pump-box.toml"
    assert result.stdout == f"Wrote {path}; change it, then see: edgelstm devices show pump-box\n"
    profile, like = find_profile("pump-box"), find_profile("pi4")
    assert profile.title == "pump-box, like pi4"
    assert profile.path == path
    assert profile.to_dict() | {"name": "", "title": "", "path": ""} == like.to_dict() | {
        "name": "",
        "title": "",
        "path": "",
    }
    assert f"(your own, {path})" in invoke().stdout
    assert f"your own, {path}" in invoke("show", "pump-box").stdout
    assert "exists already; use --force" in refusal("new", "pump-box", "--like", "pi5")
    assert invoke("new", "pump-box", "--like", "pi5", "--force").exit_code == 0
    assert find_profile("pump-box").title == "pump-box, like pi5"


def test_a_new_device_goes_where_one_wants(tmp_path: Path, own_folder: Path) -> None:
    path = tmp_path / "box.toml"
    assert invoke("new", "box", "--like", "zero2w", "-o", path).exit_code == 0
    assert json.loads(invoke("show", path, "--json").stdout)["name"] == "box"
    assert invoke("new", "again", "--like", path, "-o", tmp_path / "again.toml").exit_code == 0
    assert not own_folder.exists()
    assert "name that crate.toml, not box.toml" in refusal(
        "new", "crate", "--like", "pi4", "-o", path
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "pi9"), r"No device is called 'pi9'; the known ones are aarch64, .*\."),
        (("show", "gone.toml"), "There is no file gone.toml; see: edgelstm devices."),
        (("new", "a/b", "--like", "pi4"), r"The name 'a/b' cannot be that of a device: up to .*\."),
        (("new", "box", "--like", "pi9"), "No device is called 'pi9'; .*"),
    ],
)
def test_what_is_not_there_is_one_sentence(arguments: tuple[str, ...], message: str) -> None:
    assert re.fullmatch(message, refusal(*arguments))


@pytest.mark.parametrize("words", [("show",), ("new",)])
def test_help_has_an_example(words: tuple[str, ...]) -> None:
    assert f"Example: edgelstm devices {words[0]} " in invoke(*words, "--help").stdout


def test_a_model_is_quantised_for_a_device_of_ones_own(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("new", "box", "--like", "pi-32bit")
    monkeypatch.chdir(own_folder)
    Path("pump.csv").write_text("time,flow\n0,1\n")
    arguments = ["quantize", "pump.keras", "--calibration", "pump.csv", "-o", "pump.tflite"]
    known = CliRunner().invoke(main, [*arguments, "--device", "box"])
    unknown = CliRunner().invoke(main, [*arguments, "--device", "crate"])
    assert "'crate'; the known ones are" in unknown.stderr
    assert "known ones" not in known.stderr


def test_a_profile_is_a_device_to_the_converter() -> None:
    profile: Profile = find_profile("pi4")
    assert (profile.runtime, profile.recipe, profile.accelerator) == (
        "ai-edge-litert",
        "int8-float",
        "",
    )
