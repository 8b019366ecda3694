"""What the commands that read from a device share: their options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgelstm.errors import ConfigurationError

if TYPE_CHECKING:
    from edgelstm.configuration.settings import Rate
    from edgelstm_bridge.receiver import SourceCounters
    from edgelstm_bridge.source import Source

_LONGEST_TIMEOUT_S = 86_400

F = TypeVar("F", bound=Callable[..., Any])


def source_options(command: F) -> F:
    """Adds the options that say where readings come from."""
    return _add_options(command, port_required=True)


def optional_source_options(command: F) -> F:
    """The same for a command that can do without a device."""
    return _add_options(command, port_required=False)


def _add_options(command: F, port_required: bool) -> F:
    options = [
        click.option(
            "--port",
            required=port_required,
            metavar="URL",
            help="A serial port such as /dev/ttyACM0 (see: edgelstm ports), or socket:, rfc2217:, "
            "mqtt:, replay:, stdin: and so on.",
        ),
        click.option(
            "--baud-rate",
            type=click.IntRange(min=1),
            metavar="N",
            help="As the firmware has it.  [default: 115200]",
        ),
        click.option(
            "--format",
            "format_",
            default="auto",
            show_default=True,
            metavar="FORMAT",
            help="What the device sends: frames, csv, label, json, keyvalue; auto tells it.",
        ),
        click.option(
            "--raw",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Also write every byte and its time here; replay:FILE replays it.",
        ),
        click.option(
            "--timeout",
            type=click.IntRange(1, _LONGEST_TIMEOUT_S),
            default=10,
            show_default=True,
            metavar="S",
            help="Seconds to wait for the first readings; a slow device of text needs four lines.",
        ),
        click.option(
            "--no-reconnect", is_flag=True, help="Stop when the device goes away; default: wait."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def open_chosen(
    port: str,
    baud_rate: int | None,
    format_: str,
    raw: Path | None,
    timeout: float,
    no_reconnect: bool,
    sample_period: float | None = None,
    *,
    force: bool = False,
) -> Source:
    """Opens the source that the options of `source_options` say.

    Args:
        port: the URL.
        baud_rate: of a serial port.
        format_: of what comes.
        raw: a file for the raw capture.
        timeout: how long to wait for the first thing that is understood, in seconds.
        no_reconnect: whether a lost link is an error.
        sample_period: what to ask the device for, in seconds.
        force: whether a raw capture that exists may be replaced.

    Raises:
        EdgelstmError: as `edgelstm_bridge.open_source` does.
    """
    from edgelstm.files import check_output
    from edgelstm_bridge.sources import open_source

    if raw is not None:
        check_output(raw, force=force)
    return open_source(
        port,
        baud_rate=baud_rate,
        format=format_,
        sample_period=sample_period,
        reconnect=not no_reconnect,
        capture=raw,
        connect_timeout=timeout,
    )


def as_rate(*, set_rate: bool, resample: bool, any_rate: bool) -> Rate:
    """What becomes of readings at another rate, as three options say it.

    Raises:
        ConfigurationError: more than one is given.
    """
    given: dict[Rate, bool] = {"set": set_rate, "resample": resample, "any": any_rate}
    chosen = [rate for rate, wanted in given.items() if wanted]
    if len(chosen) > 1:
        raise ConfigurationError(
            "--set-rate, --resample and --any-rate exclude one another; give one of them."
        )
    return chosen[0] if chosen else "refuse"


def format_trouble(counters: SourceCounters) -> str:
    """What else went wrong on the way, as a list; empty when nothing did."""
    trouble = {
        "dropped by this computer": counters.overflow,
        "late or twice": counters.reordered,
        "device restarts": counters.restarts,
        "reconnections": counters.reconnects,
    }
    return ", ".join(f"{number:,} {what}" for what, number in trouble.items() if number)
