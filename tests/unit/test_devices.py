from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgelstm.cli import main
from edgelstm.errors import ConfigurationError
from edgelstm_devices.profiles import RECIPES, _parse, find_profile, load_profiles
from edgelstm_quantize import recipes

TEXT = """
title = "A board"
architecture = "aarch64"
runtime = "ai-edge-litert"
requirement = "edgelstm"
python = ">=3.11"
recipe = "int8-float"
accelerator = ""
source = "measured"
"""


def test_shipped_profiles_load_and_name_a_runtime_that_exists() -> None:
    profiles = load_profiles()
    assert {"pi4", "pi5", "pi-32bit", "x86-64"} <= profiles.keys()
    for name, profile in profiles.items():
        assert profile.name == name
        assert profile.runtime in ("ai-edge-litert", "tflite-runtime")
        # ai-edge-litert has no wheels for 32-bit ARM.
        assert (profile.runtime == "tflite-runtime") == (profile.architecture == "armv7l")


def test_default_recipes_fit_the_runtime() -> None:
    for profile in load_profiles().values():
        if profile.accelerator == "edgetpu":
            expected = "int8"  # it computes in nothing else
        elif profile.runtime == "tflite-runtime":
            expected = "int8-weight"  # it gets per-channel dynamic layers silently wrong
        else:
            expected = "int8-float"
        assert profile.recipe == expected, profile.name


def test_every_recipe_of_the_converter_is_known_here() -> None:
    assert recipes.RECIPES.keys() <= set(RECIPES)


def test_coral_devices_are_those_with_an_edge_tpu() -> None:
    coral = {name for name, p in load_profiles().items() if p.accelerator == "edgetpu"}
    assert coral == {"coral-usb", "coral-m2", "coral-dev-board"}
    for name in coral:
        source = find_profile(name).source
        assert "coral.ai/docs/" in source
        assert "no device seen" in source


def test_a_profile_is_found_by_its_name() -> None:
    assert find_profile("pi4") == load_profiles()["pi4"]
    with pytest.raises(ConfigurationError, match=r"'pi9'; the known ones are .*pi4, pi5") as error:
        find_profile("pi9")
    assert "coral-usb" in str(error.value)


def test_devices_are_listed() -> None:
    output = CliRunner().invoke(main, ["devices"]).stdout
    rows = {line.split()[0]: line for line in output.splitlines()}
    assert rows.keys() == load_profiles().keys()
    assert "int8-float" in rows["pi4"]
    assert "Edge TPU" not in rows["pi4"]
    assert rows["coral-dev-board"].endswith(", Edge TPU")
    assert len({line.index(load_profiles()[name].recipe) for name, line in rows.items()}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is not TOML"),
        (TEXT.replace("source", "sauce"), "misses the field 'source'"),
        (TEXT + 'colour = "green"', "unknown field 'colour'"),
        (TEXT.replace('"aarch64"', "64"), "architecture is 64, which is not of type str"),
        (TEXT.replace('"int8-float"', '"int4"'), "recipe 'int4', which is none of 'int8', "),
        (TEXT.replace('accelerator = ""', 'accelerator = "gpu"'), "accelerator 'gpu', which is no"),
    ],
)
def test_bad_profiles_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _parse("board", text)
