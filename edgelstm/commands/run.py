"""`edgelstm run`."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands.console import (
    backend_option,
    delegate_option,
    plain_warnings,
    quiet_runtime,
)
from edgelstm.commands.detection_options import detection_options
from edgelstm.commands.run_settings import CONFIGURATION, settings_of
from edgelstm.commands.sourcing import optional_source_options
from edgelstm.errors import OutputExistsError
from edgelstm.files import atomic_path, check_output

if TYPE_CHECKING:
    from edgelstm.commands.run_display import RunDisplay
    from edgelstm.configuration import RunSettings
    from edgelstm.service import Service


@click.command(short_help="Watch sensors and announce alerts.")
@click.argument(
    "target", metavar="ARTIFACT|FILE.toml", type=click.Path(path_type=Path), required=False
)
@optional_source_options
@click.option(
    "--set-rate", is_flag=True, help="Ask the device to send at the rate that the model needs."
)
@click.option(
    "--resample", is_flag=True, help="Put the readings onto the rate that the model needs."
)
@click.option("--any-rate", is_flag=True, help="Go on, with a warning, at a wrong rate.")
@detection_options
@click.option(
    "--no-calibration", is_flag=True, help="Leave a calibration that lies beside ARTIFACT alone."
)
@backend_option
@delegate_option
@click.option(
    "--alerts",
    "alerts_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also append the alerts to this file, as JSON lines.",
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Keep the states and the alerts here, and go on from them.",
)
@click.option("--dashboard", is_flag=True, help="Serve a page with the live signal.")
@click.option("--metrics", is_flag=True, help="Serve figures for Prometheus, and /healthz.")
@click.option(
    "--write-config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write a configuration with these options, every other one explained, and end.",
)
@click.option("--check", is_flag=True, help="Only see whether the configuration would do.")
@click.pass_context
def run(context: click.Context, /, target: Path | None, **options: Any) -> None:
    """Watch sensors: take readings from devices, step the models, announce alerts.

    ARTIFACT with --port watches one device; FILE.toml says it all: several sensors, where alerts
    go, a dashboard (see --write-config). A device that goes away is waited for. Ends when every
    device says that it has sent everything, or with Ctrl-C.

    Example: edgelstm run pump.tflite --port /dev/ttyACM0
    """
    signal.signal(signal.SIGTERM, _interrupt)
    write_config, check = options.pop("write_config"), options.pop("check")
    if target is None:
        if write_config is None:
            raise click.UsageError("Missing argument 'ARTIFACT|FILE.toml': what is to be watched?")
        _write_config(None, write_config)
        return
    from edgelstm.commands.run_display import RunDisplay

    display = RunDisplay()
    with plain_warnings(), _logging(display):
        settings = settings_of(context, target, options)
        if write_config is not None:
            _write_config(settings, write_config)
        elif check:
            _check(settings)
        else:
            _run(settings, display, reconnect=not options["no_reconnect"])


def _run(settings: RunSettings, display: RunDisplay, *, reconnect: bool) -> None:
    from edgelstm.service import ExtraSink, Hooks, Service
    from edgelstm.service.health_file import health_file_of
    from edgelstm.sinks import SinkOptions
    from edgelstm.sinks.log import LogSink
    from edgelstm.systemd import Notifier

    hooks = Hooks(display.event, display.connected, display.tick, display.ended)
    sinks = []
    if not any(sink.options.type in ("log", "journal") for sink in settings.sinks.values()):
        terminal = ExtraSink(
            "terminal",
            SinkOptions("log"),
            lambda context: LogSink(LogSink.Config(), context, display.write),
        )
        sinks.append(terminal)
    with quiet_runtime():
        service = Service(
            settings,
            patient=settings.path is not None,
            reconnect=reconnect,
            extra_sinks=sinks,
            hooks=hooks,
            notifier=Notifier(os.environ),
            health_file=health_file_of(os.environ),
        )
    display.service = service
    # From before it is ready until it has ended: whoever asks for a reload must not end it.
    reload: dict[int, Any] = {}
    if settings.path is not None:
        reload[signal.SIGHUP] = lambda _number, _frame: service.reload()
    try:
        with _handlers(reload), service:
            for page in service.pages:
                click.echo(f"Serving {page.url}", err=True)
            with _signals(service, display):
                service.wait()
    except KeyboardInterrupt:
        display.stopped()


def _check(settings: RunSettings) -> None:
    """Loads everything, and opens no source."""
    from edgelstm.outbox import Outbox
    from edgelstm.service.building import build_crew

    outbox = Outbox(None)
    try:
        with quiet_runtime():
            crew = build_crew(settings, outbox)
        crew.close()
    finally:
        outbox.close()
    sensors, sinks = len(settings.sensors), len(settings.sinks)
    click.echo(
        f"{settings.path.name if settings.path else 'The configuration'} will do: {sensors} "
        f"sensor{'' if sensors == 1 else 's'}, {sinks} sink{'' if sinks == 1 else 's'}."
    )


@contextmanager
def _signals(service: Service, display: RunDisplay) -> Iterator[None]:
    """While it runs, SIGINT and SIGTERM are the wish to stop."""

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, _interrupt)  # whoever asks twice does not want to wait
        display.stopping = True
        service.stop()

    with _handlers({signal.SIGINT: stop, signal.SIGTERM: stop}):
        yield
    if display.stopping:
        display.stopped()


@contextmanager
def _handlers(handlers: Mapping[int, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for number, handler in handlers.items():
            stack.callback(signal.signal, number, signal.signal(number, handler))
        yield


@contextmanager
def _logging(display: RunDisplay) -> Iterator[None]:
    """Shows what is logged: to the journal, with its fields, where that takes the output."""
    from edgelstm.systemd import JournalHandler, under_journal

    handler: logging.Handler = JournalHandler() if under_journal(os.environ) else display
    logger = logging.getLogger("edgelstm")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.level, logger.propagate = before


def _write_config(settings: RunSettings | None, path: Path) -> None:
    from edgelstm.configuration import write_template

    if path.exists():
        raise OutputExistsError(f"{path} exists already; choose another name, or remove it first.")
    check_output(path, force=True, suffix=CONFIGURATION)
    text = write_template(settings, folder=path.absolute().parent)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {path}.")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
