"""What the commands that calibrate share: their options."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgelstm.detectors import SCORERS, THRESHOLDS
from edgelstm.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_DAYS_PER_MONTH = 365.25 / 12

Range = tuple[float | None, float | None]


class NamedRange(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """`NAME=LOW:HIGH`, of which LOW or HIGH may be left out."""

    name = "name=low:high"  # as the help shows it

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Range]:
        """Parses the option."""
        if isinstance(value, tuple):
            return value
        name, _, limits = value.rpartition("=")
        low, colon, high = limits.partition(":")
        try:
            found = (float(low) if low else None, float(high) if high else None)
            finite = all(math.isfinite(limit) for limit in found if limit is not None)
            if not (name and colon and finite) or found == (None, None):
                raise ValueError
        except ValueError:
            self.fail(f"{value!r} is not of the form NAME=LOW:HIGH, such as t=0:90.", param, ctx)
        if found[0] is not None and found[1] is not None and found[0] >= found[1]:
            self.fail(f"{value!r} has a lowest value that is not below the highest.", param, ctx)
        return name, found


def calibration_options(command: F) -> F:
    """Adds the options that say how scores are made and judged, and what sensors can give."""
    default = "one in 7 days, but no rarer than one in 10 times the calibration"
    options = [
        *budget_options(f"  [default: {default}]"),
        click.option(
            "--scorer",
            type=click.Choice(SCORERS),
            default=SCORERS[0],
            show_default=True,
            help=_SCORER_HELP,
        ),
        click.option(
            "--threshold",
            type=click.Choice(THRESHOLDS),
            default=THRESHOLDS[0],
            show_default=True,
            help=_THRESHOLD_HELP,
        ),
        _RANGE,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def recalibration_options(command: F) -> F:
    """The same where an artifact has them already, and the budget besides."""
    own = "  [default: the artifact's own]"
    options = [
        *budget_options(own),
        click.option("--scorer", type=click.Choice(SCORERS), help=f"{_SCORER_HELP}{own}"),
        click.option("--threshold", type=click.Choice(THRESHOLDS), help=f"{_THRESHOLD_HELP}{own}"),
        _RANGE,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def budget_options(default: str) -> list[Callable[[F], F]]:
    """The options of the budget, which `as_budget` takes; `default` ends the help of the first."""
    return [
        click.option(
            "--false-alarms-per-day",
            type=click.FloatRange(min=0, min_open=True),
            metavar="N",
            help=f"The budget that the threshold keeps.{default}",
        ),
        click.option(
            "--false-alarms-per-month",
            type=click.FloatRange(min=0, min_open=True),
            metavar="N",
            help="The same by the month.",
        ),
    ]


_SCORER_HELP = "What turns residuals into a score; robust follows a sensor whose noise changes."
_THRESHOLD_HELP = "How the level is found that a score must exceed."
_RANGE = click.option(
    "--range",
    "ranges",
    type=NamedRange(),
    multiple=True,
    metavar="NAME=LOW:HIGH",
    help="What the sensor of a channel can give, such as temperature=-40:125: outside it has a "
    "fault. Give it again for further channels.",
)


def as_budget(per_day: float | None, per_month: float | None) -> float | None:
    """The budget in false alarms per day; None where none is given.

    Raises:
        ConfigurationError: both are given.
    """
    if per_day is not None and per_month is not None:
        raise ConfigurationError(
            "--false-alarms-per-day and --false-alarms-per-month are two words for one budget; "
            "give one of them."
        )
    return per_day if per_month is None else per_month / _DAYS_PER_MONTH


def as_ranges(given: tuple[tuple[str, Range], ...]) -> dict[str, Range]:
    """The ranges by channel.

    Raises:
        ConfigurationError: a channel has two.
    """
    ranges = dict(given)
    if len(ranges) < len(given):
        names = [name for name, _ in given]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigurationError(f"--range is given twice for the channel {twice!r}.")
    return ranges
