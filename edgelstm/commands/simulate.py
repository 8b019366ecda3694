"""`edgelstm simulate`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands.console import read_recording, recording_options
from edgelstm.errors import ConfigurationError

if TYPE_CHECKING:
    from edgelstm.recording import Recording
    from edgelstm_bridge.port_device import PortDevice
    from edgelstm_bridge.virtual_device import Pace, RunReport

FORMATS = ("frames", "csv", "semicolon", "tab", "label", "keyvalue", "json")


class PaceOption(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """Readings per second, or `recorded`."""

    name = "pace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Pace:
        """Parses the option."""
        if value == "recorded" or not isinstance(value, str):
            pace: Pace = value
            return pace
        try:
            rate = float(value)
        except ValueError:
            rate = 0
        if not 0 < rate < math.inf:
            self.fail(f"{value!r} is neither a rate above 0 nor the word recorded.", param, ctx)
        return rate


@click.command(short_help="Be a device that sends a recording.")
@click.argument("recording_file", metavar="FILE", type=click.Path(path_type=Path))
@recording_options
@click.option(
    "--rate",
    type=PaceOption(),
    metavar="HZ|recorded",
    help="Readings per second, or the pace of the recording's own times.",
)
@click.option(
    "--as-fast-as-possible",
    is_flag=True,
    help="As fast as the reader takes them; this is the default.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default="frames",
    show_default=True,
    help="The frames of the protocol, or lines of text as other firmware prints them.",
)
@click.option("--boot-message", metavar="TEXT", help="With a text format: a line printed first.")
@click.option(
    "--faults",
    metavar="LIST",
    help="What goes wrong: drop and garble a share of the bytes (0.2%, 2000ppm), lose, damage, "
    "hang, restart or unplug every N readings, such as drop=0.2%,hang=500:3,unplug=2000:1,seed=1.",
)
@click.option(
    "--link", type=click.Path(path_type=Path), help="Keep a symbolic link to the port here."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, for programs.")
def simulate(
    recording_file: Path,
    rate: Pace,
    as_fast_as_possible: bool,
    output_format: str,
    boot_message: str | None,
    faults: str | None,
    link: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Be a device that sends a recording: a serial port without hardware.

    FILE is a CSV or Parquet file. Prints the port, waits until a reader starts the device, sends
    the readings as CRC-checked binary frames, and ends when the reader has taken the last one. A
    text format is not started: it begins when a reader opens the port.

    Example: edgelstm simulate pump.csv --rate 10
    """
    from edgelstm_bridge.replay import rows_of

    if rate is not None and as_fast_as_possible:
        raise ConfigurationError("--rate and --as-fast-as-possible exclude each other; give one.")
    if boot_message is not None and output_format == "frames":
        raise ConfigurationError("--boot-message needs a text format; give --format csv, say.")
    recording = read_recording(recording_file, **reading)
    with _device(recording, output_format, boot_message, faults, link) as device:
        port = str(link or device.port)
        if as_json:
            click.echo(json.dumps({"port": port, "readings": len(recording)}))
        else:
            click.echo(f"A device with {len(recording):,} readings waits at {port}")
        try:
            report = device.run(rows_of(recording), rate=rate)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            return
    click.echo(json.dumps(_figures(report)) if as_json else _summary(report))


def _device(
    recording: Recording,
    output_format: str,
    boot_message: str | None,
    faults_text: str | None,
    link: Path | None,
) -> PortDevice:
    from edgelstm_bridge.faults import Faults
    from edgelstm_bridge.replay import hello_of
    from edgelstm_bridge.virtual_device import VirtualDevice
    from edgelstm_bridge.virtual_text import VirtualTextDevice

    faults = Faults() if faults_text is None else Faults.parse(faults_text)
    if output_format == "frames":
        return VirtualDevice(hello_of(recording), link=link, faults=faults)
    return VirtualTextDevice(
        recording.channels, output_format, boot_message=boot_message, link=link, faults=faults
    )


def _figures(report: RunReport) -> dict[str, Any]:
    return {
        "sent": report.sent,
        "finished": report.finished,
        "restarts": report.restarts,
        "unplugs": report.unplugs,
        "lost": report.lost,
    }


def _summary(report: RunReport) -> str:
    notes = [f"{count:,} lost by {why}" for why, count in report.lost.items()]
    for count, what in ((report.restarts, "restarted"), (report.unplugs, "unplugged")):
        if count:
            notes.append(f"{what} {count:,} x")
    if not report.finished:
        notes.append("the reader left early")
    return f"Sent {report.sent:,} readings{'; ' if notes else ''}{', '.join(notes)}."
