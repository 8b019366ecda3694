"""`edgelstm simulate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgelstm.commands.console import read_recording, recording_options


@click.command(short_help="Be a device that sends a recording.")
@click.argument("csv", type=click.Path(path_type=Path))
@recording_options
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HZ",
    help="Readings per second; default: as fast as the reader takes them.",
)
@click.option(
    "--link", type=click.Path(path_type=Path), help="Make a symbolic link to the port here."
)
@click.option(
    "--corrupt-every",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Damage every Nth frame.",
)
@click.option(
    "--drop-every", type=click.IntRange(0), default=0, metavar="N", help="Lose every Nth frame."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, for programs.")
def simulate(
    csv: Path,
    rate: float | None,
    link: Path | None,
    corrupt_every: int,
    drop_every: int,
    as_json: bool,
    **reading: Any,
) -> None:
    """Be a device that sends a recording: a serial port without hardware.

    Prints the port, waits until a reader starts the device, sends the readings as CRC-checked
    binary frames, and ends when the reader has taken the last one.

    Example: edgelstm simulate pump.csv --rate 10
    """
    from edgelstm_bridge.replay import hello_of, rows_of
    from edgelstm_bridge.virtual_device import VirtualDevice

    recording = read_recording(csv, **reading)
    with VirtualDevice(
        hello_of(recording), link=link, corrupt_every=corrupt_every, drop_every=drop_every
    ) as device:
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
    if as_json:
        click.echo(json.dumps({"sent": report.sent, "finished": report.finished}))
    else:
        end = "" if report.finished else "; the reader left early"
        click.echo(f"Sent {report.sent:,} readings{end}.")
