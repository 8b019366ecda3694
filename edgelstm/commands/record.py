"""`edgelstm record`."""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands.console import LiveLine, output_option
from edgelstm.commands.event_lines import EventFile, RateLimit, format_event
from edgelstm.commands.recording_summary import format_summary, rate_warning
from edgelstm.commands.sourcing import open_chosen, source_options
from edgelstm.errors import ConfigurationError, EdgelstmError, SourceError
from edgelstm.reading import Reading

if TYPE_CHECKING:
    from edgelstm_bridge.events import Event
    from edgelstm_bridge.recorder import Recorder
    from edgelstm_bridge.source import Source

_STATUS_INTERVAL_S = 0.25
_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_QUANTITY = re.compile(r"([0-9.]+(?:e-?[0-9]+)?)\s*([a-zA-Z]*)")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """A time above 0, in seconds: `90`, `60s`, `10m`, `2h`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parses the option."""
        if isinstance(value, float):
            return value
        number, unit = _quantity(value)
        if unit not in _UNITS or not 0 < number < float("inf"):
            self.fail(f"{value!r} is no duration such as 60s, 10m or 2h.", param, ctx)
        return number * _UNITS[unit]


class Period(click.ParamType):  # type: ignore[type-arg]  # as above
    """A rate or a period above 0, as seconds: `50`, `50Hz`, `20ms`, `5min`."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parses the option."""
        if isinstance(value, float):
            return value
        number, unit = _quantity(value)
        is_rate = unit.lower() in ("", "hz")
        if not (is_rate or unit in _UNITS) or not 0 < number < float("inf"):
            self.fail(f"{value!r} is no rate such as 50Hz, nor a period such as 20ms.", param, ctx)
        return 1 / number if is_rate else number * _UNITS[unit]


def _quantity(text: str) -> tuple[float, str]:
    """A number and its unit; NaN where there is no number."""
    match = _QUANTITY.fullmatch(text.strip())
    try:
        return (float(match[1]), match[2]) if match else (float("nan"), "")
    except ValueError:
        return float("nan"), ""


@click.command(short_help="Record a sensor's readings to a file.")
@source_options
@output_option(".csv or .parquet")
@click.option("--duration", type=Duration(), help="Stop after this time, such as 60s, 10m or 2h.")
@click.option("--readings", type=click.IntRange(min=1), help="Stop after so many readings.")
@click.option("--channels", metavar="A,B", help="Only these channels, in this order; default: all.")
@click.option(
    "--rate",
    type=Period(),
    metavar="HZ",
    help="Ask the device for so many readings per second.",
)
@click.option(
    "--resample",
    type=Period(),
    metavar="HZ|PERIOD",
    help="Put the readings on an even grid, such as 50Hz or 20ms.",
)
@click.option(
    "--events",
    "events_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also append gaps, restarts, lost links and the like to this file, as JSON lines.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def record(
    port: str,
    baud_rate: int | None,
    format_: str,
    raw: Path | None,
    timeout: float,
    no_reconnect: bool,
    output: Path,
    duration: float | None,
    readings: int | None,
    channels: str | None,
    rate: float | None,
    resample: float | None,
    events_file: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Record a sensor's readings to a CSV or Parquet file that train and quantize take.

    Ends after --duration or --readings, when the device has sent everything, or with Ctrl-C; what
    came until then is in the file. Until then it is in FILE.part, in CSV.

    Example: edgelstm record --port /dev/ttyACM0 -o pump.csv --duration 10m
    """
    from edgelstm_bridge.recorder import Recorder
    from edgelstm_bridge.recording_file import check_recording_path, part_path
    from edgelstm_bridge.resampling import Resampler
    from edgelstm_bridge.urls import without_password

    check_recording_path(output, force=force)
    _refuse_one_file_for_two([output, part_path(output)], [raw, events_file])
    names = [name.strip() for name in channels.split(",")] if channels else None
    resampler = Resampler(resample) if resample else None
    with ExitStack() as stack:
        events = stack.enter_context(closing(EventFile(events_file))) if events_file else None
        stop = stack.enter_context(_stop_on_signals())
        try:
            source = stack.enter_context(
                open_chosen(port, baud_rate, format_, raw, timeout, no_reconnect, rate, force=force)
            )
        except KeyboardInterrupt:
            shown = without_password(port)
            raise SourceError(f"Stopped before any reading came from {shown}.") from None
        recorder = stack.enter_context(
            Recorder(
                source, output, channels=names, resampler=resampler, limit=readings, force=force
            )
        )
        columns = ", ".join(recorder.file.columns)
        click.echo(f"Recording {columns} from {source.description} to {output}.", err=True)
        lost = _follow(recorder, source, stop, duration, events, rate)
        written = recorder.finish()
        source.close()
    if not written:
        why = f"{lost} " if lost else ""
        raise SourceError(
            f"{why}No reading came from {source.description}, so {output} was not written."
        )
    summary = recorder.summary()
    if as_json:
        answer = summary.to_dict() | {"raw": str(raw) if raw else None, "ended": stop.reason}
        click.echo(json.dumps(answer, indent=2))
    else:
        for line in format_summary(summary):
            click.echo(line)
    if lost:
        raise SourceError(f"{lost} What had come before is in {output}.")


def _refuse_one_file_for_two(recording: Sequence[Path], others: Sequence[Path | None]) -> None:
    """Refuses to write two things to one file.

    Raises:
        ConfigurationError: that is asked for.
    """
    taken = {path.resolve() for path in recording}
    for path in filter(None, others):
        if path.resolve() in taken:
            raise ConfigurationError(f"{path} cannot hold two things; name a file for each.")
        taken.add(path.resolve())


class _Stop:
    """Why and how a recording is stopped before its source ends.

    Attributes:
        reason: "ended" until something else is known: "signal", "duration", "readings" or "lost".
    """

    def __init__(self) -> None:
        self.reason = "ended"
        self._source: Source | None = None
        self._signals = 0

    def watch(self, source: Source) -> None:
        """Names the source that is to be stopped."""
        self._source = source

    def __call__(self, reason: str) -> None:
        """Asks the source to stop."""
        if self.reason == "ended":
            self.reason = reason
        if self._source is not None:
            self._source.stop()

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Asks the source to stop; where there is none yet, or it was asked, stops at once."""
        self._signals += 1
        if self._source is None or self._signals > 1:
            raise KeyboardInterrupt
        self("signal")


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """Has Ctrl-C and SIGTERM stop the recording, instead of ending the process."""
    stop = _Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as a script's background has it
            signal.signal(number, stop.on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(
    recorder: Recorder,
    source: Source,
    stop: _Stop,
    duration: float | None,
    events: EventFile | None,
    rate: float | None,
) -> EdgelstmError | None:
    """Takes everything that comes, and shows what is going on.

    Returns:
        Why the source was lost for good; None when it ended or was stopped.
    """
    display = _Display(recorder, rate)
    stop.watch(source)
    timer = None
    if duration and duration < threading.TIMEOUT_MAX:
        timer = threading.Timer(duration, stop, ["duration"])
        timer.daemon = True
        timer.start()
    try:
        for event in recorder.events():
            if type(event) is Reading:
                display.take_reading(event)
            else:
                if events:
                    events.take(event, time.time())
                display.take_event(event)
    except KeyboardInterrupt:
        pass  # twice: what came is kept all the same
    except EdgelstmError as error:
        stop.reason = "lost"
        return error
    finally:
        if timer:
            timer.cancel()
            timer.join()
        display.close()
        if stop.reason == "signal":
            click.echo("Stopped.", err=True)
    if recorder.is_full:
        stop.reason = "readings"
    return None


class _Display:
    """The live line on a terminal, and lines about what happens above it.

    Args:
        recorder: of what is shown.
        asked: for a reading every so many seconds; None where the device has its own rate.
    """

    def __init__(self, recorder: Recorder, asked: float | None) -> None:
        self._recorder = recorder
        self._asked = asked
        self._line = LiveLine()
        self._lines = RateLimit(self._write)
        self._expect(recorder.source.sample_period)
        self._began = time.monotonic()
        self._next_status = 0.0

    def take_reading(self, reading: Reading) -> None:
        """Shows the state of things, a few times a second."""
        announced = self._recorder.source.sample_period
        if announced != self._announced:  # it may be what it made of the rate that was asked for
            self._expect(announced)
        mismatch = self._monitor.update(reading)
        if mismatch and self._expected:
            warning = rate_warning(
                mismatch.measured, mismatch.expected, asked=self._asked is not None
            )
            self._lines.take(f"Warning: {warning}", time.monotonic())
        if self._line.live:
            now = time.monotonic()
            if now >= self._next_status:
                self._line.show(self._status(reading, now - self._began))
                self._next_status = now + _STATUS_INTERVAL_S

    def take_event(self, event: Event) -> None:
        """Shows an event above the live line."""
        text = format_event(event)
        if text is not None:
            self._lines.take(text, time.monotonic())

    def close(self) -> None:
        """Takes the live line away."""
        self._lines.close()
        self._line.clear()

    def _expect(self, announced: float | None) -> None:
        """Measures the rate against what was asked for, or else what the device says."""
        from edgelstm_bridge.rate import RateMonitor

        self._announced = announced
        self._expected = self._asked or announced
        # Without either there is still the measured rate to show.
        self._monitor = RateMonitor(self._expected or 1.0)

    def _write(self, text: str) -> None:
        self._line.clear()
        click.echo(text, err=True)

    def _status(self, reading: Reading, elapsed: float) -> str:
        recorder, counters = self._recorder, self._recorder.source.counters
        period = self._monitor.measured_period
        clock = time.strftime("%H:%M:%S", time.gmtime(elapsed % 86_400))
        days = f"{elapsed // 86_400:.0f} d " if elapsed >= 86_400 else ""
        parts = [
            f"{days}{clock}",
            f"{recorder.readings:,} readings",
            f"{1 / period:.1f} Hz" if period else "",
            f"{counters.lost:,} lost",
            f"{counters.damaged:,} damaged",
            *(
                f"{channel.name} {value:.4g}"
                for channel, value in zip(recorder.source.channels, reading.values, strict=True)
            ),
        ]
        width = shutil.get_terminal_size().columns - 3  # LiveLine indents, and must not wrap
        return "  ".join(part for part in parts if part)[: max(width, 10)]
