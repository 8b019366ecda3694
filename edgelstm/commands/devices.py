"""`edgelstm devices`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgelstm.errors import ConfigurationError
from edgelstm.files import atomic_path, check_output

if TYPE_CHECKING:
    from edgelstm_devices import Profile, Runtime

_LABELS = {
    "memory_mb": "memory",
    "serial": "serial ports",
    "models": "model begins",
    "packages": "runtimes",
}
_TITLE = re.compile(r"^title\s*=.*$", re.MULTILINE)


@click.group(
    invoke_without_command=True, short_help="List the devices that are known, or show one."
)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@click.pass_context
def devices(context: click.Context, as_json: bool) -> None:
    """List the devices that are known: what runs on each, and its default recipe.

    Your own are the TOML files in ~/.config/edgelstm/devices.

    Example: edgelstm devices
    """
    if context.invoked_subcommand is not None:
        return
    from edgelstm_devices import load_profiles

    profiles = list(load_profiles().values())
    if as_json:
        click.echo(json.dumps([profile.to_dict() for profile in profiles], indent=2))
        return
    for line in _table([_row(profile) for profile in profiles]):
        click.echo(line)


@devices.command(short_help="Show everything that is known of a device, and where it is from.")
@click.argument("device")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(device: str, as_json: bool) -> None:
    """Show everything that is known of DEVICE, each figure with its source.

    DEVICE is a name as `edgelstm devices` lists it, or a TOML file.

    Example: edgelstm devices show pi4
    """
    from edgelstm_devices import find_profile

    profile = find_profile(device)
    if as_json:
        click.echo(json.dumps(profile.to_dict(), indent=2))
        return
    for line in _page(profile):
        click.echo(line)


@devices.command(short_help="Write the file of a device of your own, to begin with.")
@click.argument("name")
@click.option("--like", required=True, help="The device that it is made from.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file; NAME.toml in ~/.config/edgelstm/devices by default.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
def new(name: str, like: str, output: Path | None, force: bool) -> None:
    """Write the file of a device called NAME, as a copy that you then change.

    Example: edgelstm devices new pump-box --like pi4
    """
    from edgelstm_devices.profiles import check_name, profile_text, user_folder

    check_name(name, f"The name {name!r}")
    text = profile_text(like)
    if output is None:
        user_folder().mkdir(parents=True, exist_ok=True)
        output = user_folder() / f"{name}.toml"
    elif output.name != f"{name}.toml":
        raise ConfigurationError(
            f"A device is called as its file is; name that {name}.toml, not {output.name}."
        )
    check_output(output, force=force, suffix=".toml")
    text = _TITLE.sub(f'title = "{name}, like {like}"', text, count=1)
    with atomic_path(output) as path:
        path.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {output}; change it, then see: edgelstm devices show {name}")


def _row(profile: Profile) -> tuple[str, ...]:
    accelerator = ", Edge TPU" if profile.accelerator == "edgetpu" else ""
    own = f" (your own, {profile.path})" if profile.path else ""
    return (
        profile.name,
        profile.title,
        profile.architecture,
        _memory(profile.memory_mb),
        profile.recipe,
        f"{profile.runtime}, Python {profile.python}{accelerator}{own}",
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _page(profile: Profile) -> Iterator[str]:
    """All of a profile, with the source of each figure below it."""
    yield f"{profile.name}: {profile.title}"
    if profile.path:
        yield f"  your own, {profile.path}"
    figures = {
        "architecture": f"{profile.architecture}, {profile.bits} bits",
        "memory_mb": _memory(profile.memory_mb),
        "cores": str(profile.cores or ""),
        "threads": str(profile.threads),
        "recipe": profile.recipe,
        "accelerator": profile.accelerator,
        "delegates": ", ".join(profile.delegates),
        "serial": ", ".join(profile.serial),
        "models": ", ".join(profile.models),
        "packages": ", ".join(profile.packages),
    }
    yield from _sourced(figures, profile.sources, "")
    for runtime in profile.runtimes:
        yield ""
        yield f"{runtime.package} {runtime.version} on {runtime.architecture}"
        yield from _sourced(_figures(runtime), runtime.sources, "  ")
        if runtime.note:
            yield f"  {runtime.note}"
    if profile.note:
        yield ""
        yield profile.note


def _figures(runtime: Runtime) -> dict[str, str]:
    return {
        "python": runtime.python,
        "numpy": runtime.numpy,
        "glibc": f">={runtime.glibc}",
        "tags": ", ".join(runtime.tags),
        "install": f"pip install '{runtime.requirement}'",
        "index": runtime.index,
        "debian": " ".join(runtime.debian),
    }


def _sourced(figures: Mapping[str, str], sources: Mapping[str, str], indent: str) -> Iterator[str]:
    for name, value in figures.items():
        if value:
            yield f"{indent}{_LABELS.get(name, name):<14}{value}"
            if name in sources:
                yield f"{indent}{'':<14}  from {sources[name]}"


def _memory(sizes: Sequence[int]) -> str:
    """Such as "512 MB to 1 GB"; "" when none is known."""
    ends = sorted({min(sizes), max(sizes)}) if sizes else []
    return " to ".join(f"{mb} MB" if mb % 1024 else f"{mb // 1024} GB" for mb in ends)
