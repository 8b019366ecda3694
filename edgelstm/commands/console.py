"""What the commands share: options, progress and the way figures are written."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from edgelstm import parquet
from edgelstm.backends import BACKENDS
from edgelstm.backends.graph import DelegateCounters
from edgelstm.errors import DelegateWarning
from edgelstm.manifest import Manifest
from edgelstm.recording import Recording
from edgelstm.tables import Categorical

F = TypeVar("F", bound=Callable[..., Any])


class Rows(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """`START:STOP`, either of which may be left out, as a Python slice takes them."""

    name = "start:stop"  # as the help shows it

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        """Parses the option."""
        if isinstance(value, tuple):
            return value
        start, colon, stop = value.partition(":")
        try:
            if not colon:
                raise ValueError
            return (int(start) if start else None, int(stop) if stop else None)
        except ValueError:
            self.fail(f"{value!r} is not of the form START:STOP, such as 0:750.", param, ctx)


class Percentage(click.ParamType):  # type: ignore[type-arg]  # as above
    """A share above 0: `1%`, or `0.01`."""

    name = "percentage"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parses the option."""
        if isinstance(value, float):
            return value
        try:
            share = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            self.fail(f"{value!r} is no share such as 1% or 0.01.", param, ctx)
        if not 0 < share < 1:
            self.fail(f"{value!r} is not between 0 and 100%.", param, ctx)
        return share


def output_option(suffix: str) -> Callable[[F], F]:
    """Adds `-o FILE`."""
    return click.option(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help=f"The {suffix} file to write.",
    )


def backend_option(command: F) -> F:
    """Adds `--backend`."""
    return click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        default="auto",
        show_default=True,
        help="The TFLite runtime; auto takes the first that is installed.",
    )(command)


def delegate_option(command: F) -> F:
    """Adds `--delegate`."""
    return click.option(
        "--delegate",
        metavar="NAME",
        help="edgetpu, edgetpu:usb:0 and the like, or the path of a delegate's library; without "
        "it the CPU computes.",
    )(command)


RECORDING_OPTIONS = ("columns", "time_column", "sample_period", "rows")


def recording_options(command: F) -> F:
    """Adds the options that say how a CSV file is read."""
    options = [
        click.option(
            "--columns", metavar="A,B", help="The channels; default: every column of numbers."
        ),
        click.option(
            "--time-column",
            metavar="NAME",
            help="The column with the time; default: timestamp, time or datetime.",
        ),
        click.option(
            "--sample-period",
            type=click.FloatRange(min=0, min_open=True),
            default=1.0,
            show_default=True,
            metavar="SECONDS",
            help="Seconds between readings, for a file without a time column.",
        ),
        click.option("--rows", type=Rows(), default=":", help="Only these rows, such as 0:750."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_recording(
    path: Path,
    columns: str | None,
    time_column: str | None,
    sample_period: float,
    rows: tuple[int | None, int | None],
    *,
    missing: bool = False,
    categorical: Categorical = (),
    in_order: bool = False,
) -> Recording:
    """Reads a CSV or Parquet file as the options of `recording_options` say.

    Args:
        path: the file.
        columns: as the option.
        time_column: as the option.
        sample_period: as the option.
        rows: as the option.
        missing: see `read_csv`.
        categorical: see `read_csv`.
        in_order: refuses rows whose time goes back.
    """
    names = [name.strip() for name in columns.split(",")] if columns else None
    recording = parquet.read_recording(
        path,
        columns=names,
        time_column=time_column,
        sample_period=sample_period,
        missing=missing,
        categorical=categorical,
    ).rows(*rows)
    if in_order:
        recording.need_order()
    return recording


@contextmanager
def quiet_runtime() -> Iterator[None]:
    """Keeps the TFLite runtime's greeting off standard error while a model is loaded.

    It is written by C++ code that has no switch for it. What else is written there comes after.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            caught.seek(0)
            for line in caught:
                if not line.startswith(b"INFO: Created TensorFlow Lite"):
                    os.write(2, line)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Shows every warning that a delegate gives as a line for people, however often."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", DelegateWarning)
        warnings.showwarning = show
        yield


class LiveLine:
    """A line on standard error that is written over again and again, on a terminal only.

    Standard output holds results only; `clear` takes the line away before one is printed.
    """

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Shows a text in place of the one before."""
        if self.live and text != self._shown:
            click.echo(f"\r\033[K  {text}", nl=False, err=True)
            self._shown = text

    def clear(self) -> None:
        """Takes the line away."""
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)
            self._shown = ""


class ProgressLine:
    """Shows what is going on: a bar on a terminal, a line per stage elsewhere.

    As a context manager it takes its bar away at the end, however that comes.
    """

    _WIDTH = 24

    def __init__(self) -> None:
        self._line = LiveLine()
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Reports that `done` of `total` steps of a stage are done."""
        if self._line.live:
            bar = ("#" * (done * self._WIDTH // max(total, 1))).ljust(self._WIDTH, ".")
            self._line.show(f"[{bar}] {stage}")
        elif stage != self._stage:
            click.echo(f"  {stage} ...", err=True)
        self._stage = stage

    def done(self) -> None:
        """Takes the bar away, so that results can be printed."""
        self._line.clear()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()


def format_budget(false_alarms_per_day: float) -> str:
    """A budget of false alarms as people say it."""
    if false_alarms_per_day > 1:
        return f"{false_alarms_per_day:.4g} false alarms a day"
    if false_alarms_per_day == 1:
        return "one false alarm a day"
    return f"one false alarm in {1 / false_alarms_per_day:.3g} days"


def format_runtimes(manifest: Manifest) -> str:
    """The runtimes that compute an artifact correctly."""
    known = [f"{name} {version} or later" for name, version in manifest.runtimes.items()]
    return ", ".join(known) or "none that was tried"


def format_delegate(counters: DelegateCounters) -> str:
    """What ran on a delegate, and what on the CPU."""
    share = ""
    if counters.operations:
        share = f" ({counters.delegated_operations} of {counters.operations} operations)"
    failures = ""
    if counters.fallbacks:
        failures = (
            f"; it failed {counters.fallbacks:,} x, and was tried again {counters.retries:,} x"
        )
    return (
        f"{counters.delegate_steps:,} steps on the delegate{share}, {counters.cpu_steps:,} on the "
        f"CPU{failures}."
    )
