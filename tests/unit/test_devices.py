from __future__ import annotations

import pytest
from click.testing import CliRunner

from edgelstm.cli import main
from edgelstm.errors import ConfigurationError
from edgelstm_devices.profiles import _parse, load_profiles

TEXT = """
title = "A board"
architecture = "aarch64"
runtime = "ai-edge-litert"
requirement = "edgelstm"
python = ">=3.11"
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


def test_devices_are_listed() -> None:
    output = CliRunner().invoke(main, ["devices"]).stdout
    assert len(output.splitlines()) == len(load_profiles())
    assert "pi4" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is not TOML"),
        (TEXT.replace("source", "sauce"), "misses the field 'source'"),
        (TEXT + 'colour = "green"', "unknown field 'colour'"),
        (TEXT.replace('"aarch64"', "64"), "architecture is 64, which is not of type str"),
    ],
)
def test_bad_profiles_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _parse("board", text)
