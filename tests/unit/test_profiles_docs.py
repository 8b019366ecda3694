from __future__ import annotations

import re
from pathlib import Path

from edgelstm.configuration.fields import fields_of
from edgelstm_devices.profiles import ACCELERATORS, RECIPES, Profile, load_profiles, user_folder
from edgelstm_devices.runtimes import ARCHITECTURES, load_runtimes

PAGE = (Path(__file__).parents[2] / "docs/devices.md").read_text()


def rows_after(header: str) -> list[list[str]]:
    """The cells of the table with that header."""
    lines = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_lists_the_devices() -> None:
    listed = {
        (row[0].strip("`"), row[1], row[2].strip("`"), row[3])
        for row in rows_after("| device | what it is |")
    }
    assert listed == {(p.name, p.title, p.recipe, p.runtime) for p in load_profiles({}).values()}


def test_the_page_lists_the_runtimes() -> None:
    listed = {(row[0], row[1], row[4].strip("*")) for row in rows_after("| runtime | architecture")}
    assert listed == {
        (f"{runtime.package} {runtime.version}", runtime.architecture, runtime.glibc)
        for runtime in load_runtimes().values()
    }


def test_the_page_has_each_key_and_its_default() -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows_after("| key | default |")}
    fields = [each for each in fields_of(Profile) if each.name not in ("name", "path")]
    defaults = {"()": "[]", "None": "", "''": '""'}
    assert listed == {
        each.name: "" if each.required else defaults.get(repr(each.default), repr(each.default))
        for each in fields
    }
    for word in (*ARCHITECTURES, *RECIPES, *filter(None, ACCELERATORS)):
        assert f"`{word}`" in PAGE


def test_the_example_of_the_page_is_a_profile(tmp_path: Path) -> None:
    (block,) = re.findall(r"\n\n(    title = .*?)\n\n\|", PAGE, re.DOTALL)
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    user_folder(environ).mkdir(parents=True)
    (user_folder(environ) / "box.toml").write_text(re.sub(r"^    ", "", block, flags=re.MULTILINE))
    assert load_profiles(environ)["box"].likeness("ACME PC-7 rev 2", "aarch64") == len("ACME PC-7")
