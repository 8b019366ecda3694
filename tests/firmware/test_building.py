"""`make firmware`, and what the pages about the firmware say."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from building import FIRMWARE, LIBRARY, ROOT, firmware, needs_host_compiler, needs_simulator, run

README = FIRMWARE / "README.md"
NAMES = ["avr-analog", "AnalogInputs", "Accelerometer"]
FLASH, RAM = 32_256, 2_048


def sizes() -> dict[str, tuple[int, int]]:
    """What `make` prints, after the first line."""
    build = firmware(NAMES[0]).parent
    head, *lines = run("make", "-s", "-C", FIRMWARE, f"BUILD={build}").splitlines()
    assert head.split() == ["firmware", "flash", "(bytes)", "RAM", "(bytes)"]
    table = {}
    for line in lines:
        name, flash, flash_share, percent, ram, ram_share, _ = line.split()
        assert percent == "%"
        assert float(flash_share) == pytest.approx(int(flash) * 100 / FLASH, abs=0.06)
        assert float(ram_share) == pytest.approx(int(ram) * 100 / RAM, abs=0.06)
        table[name] = int(flash), int(ram)
    return table


@needs_simulator
def test_make_prints_the_sizes_that_the_readme_states() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) .*?\| ([\d,]+) ", README.read_text(), re.M)
    stated = {name: [int(size.replace(",", "")) for size in rest] for name, *rest in rows}
    measured = sizes()
    assert list(measured) == list(stated) == NAMES
    for name, figures in measured.items():
        assert stated[name] == pytest.approx(figures, rel=0.02), measured


@needs_simulator
@pytest.mark.parametrize("name", NAMES)
def test_there_is_a_file_to_upload(name: str) -> None:
    elf = firmware(name)
    assert elf.with_suffix(".hex").read_text().startswith(":10")


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    """Only the tools that make itself needs are found."""
    for tool in ("sh", "mkdir"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    done = subprocess.run(
        [shutil.which("make") or "", "-s", "-C", FIRMWARE, f"BUILD={tmp_path}", "ARDUINO=/nowhere"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "sudo apt-get install gcc-avr binutils-avr" in done.stderr
    assert "arduino-core-avr" in done.stderr


@needs_simulator
def test_flash_asks_for_the_port() -> None:
    build = firmware(NAMES[0]).parent
    done = subprocess.run(
        [shutil.which("make") or "", "-s", "-C", FIRMWARE, "flash", f"BUILD={build}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "make flash PORT=/dev/ttyACM0" in done.stderr


@needs_host_compiler
def test_the_example_for_another_chip_compiles(tmp_path: Path) -> None:
    (code,) = re.findall(r"```c\n(.*?)```", README.read_text(), re.S)
    source = tmp_path / "example.c"
    source.write_text(code)
    run("gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-I", LIBRARY, "-c", source,
        "-o", tmp_path / "example.o")  # fmt: skip


@needs_simulator
def test_the_example_of_the_library_compiles(tmp_path: Path) -> None:
    (code,) = re.findall(r"```cpp\n(.*?)```", (LIBRARY.parent / "README.md").read_text(), re.S)
    source = tmp_path / "example.cpp"
    source.write_text("#include <Arduino.h>\nint16_t readTemperature();\n" + code)
    arduino = Path("/usr/share/arduino/hardware/arduino/avr")
    run("avr-g++", "-mmcu=atmega328p", "-DF_CPU=16000000L", "-DARDUINO=10819", "-std=gnu++11",
        "-fno-exceptions", "-Os", "-Wall", "-Wextra", "-Werror", "-I", arduino / "cores/arduino",
        "-I", arduino / "variants/standard", "-I", LIBRARY, "-c", source,
        "-o", tmp_path / "example.o")  # fmt: skip


def test_links_lead_somewhere() -> None:
    for page in (README, LIBRARY.parent / "README.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_library_is_one_that_the_arduino_ide_takes() -> None:
    lines = (LIBRARY.parent / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    for name in ("name", "version", "author", "maintainer", "sentence", "paragraph", "category"):
        assert properties[name], name
    assert properties["architectures"] == "*"
    assert (LIBRARY / properties["includes"]).exists()
    for sketch in (LIBRARY.parent / "examples").iterdir():
        assert (sketch / f"{sketch.name}.ino").exists()
    header = (LIBRARY / "EdgeLSTM.h").read_text() + (LIBRARY / "edgelstm_frame.h").read_text()
    for line in (LIBRARY.parent / "keywords.txt").read_text().splitlines():
        keyword, kind = line.split("\t")
        assert re.search(rf"\b{keyword}\b", header), keyword
        assert kind in ("KEYWORD1", "KEYWORD2", "LITERAL1")


def test_only_the_runner_is_under_the_gpl() -> None:
    runner = ROOT / "tests/firmware/simboard.c"
    assert "SPDX-License-Identifier: GPL-3.0-or-later" in runner.read_text().splitlines()[0]
    for path in FIRMWARE.rglob("*"):
        if path.is_file():
            assert "GPL" not in path.read_text(errors="replace"), path
