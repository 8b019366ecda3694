"""What the commands that watch for anomalies share: the options of the detection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

import click

from edgelstm.alert import AlertPolicy
from edgelstm.commands.calibration_options import as_budget, budget_options
from edgelstm.commands.console import Percentage
from edgelstm.commands.record import Duration
from edgelstm.detectors import THRESHOLDS

_NAMES = (
    "false_alarms_per_day",
    "false_alarms_per_month",
    "threshold",
    "open_after",
    "minimum_duration",
    "close_after",
    "cool_down",
    "release",
)

F = TypeVar("F", bound=Callable[..., Any])


class Chosen(TypedDict):
    """What the options say, as `Pipeline` takes it; None where it has the artifact's or its own."""

    false_alarms_per_day: float | None
    policy: AlertPolicy | None
    threshold: str | None


class KOfN(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """`K/N`, such as 3/5; a whole number alone is all of so many."""

    name = "k/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parses the option."""
        if isinstance(value, tuple):
            return value
        k, slash, n = value.partition("/")
        try:
            return int(k), int(n if slash else k)
        except ValueError:
            self.fail(f"{value!r} is not of the form K/N, such as 3/5.", param, ctx)


def detection_options(command: F) -> F:
    """Adds the options that say how often alerts may be false, and when they open and close."""
    options = [
        *budget_options("  [default: the artifact's own]"),
        click.option(
            "--threshold",
            type=click.Choice(THRESHOLDS),
            help="How the level is found that a score must exceed; default: the artifact's own.",
        ),
        click.option(
            "--open-after",
            type=KOfN(),
            help="An alert opens when K of the last N scores exceed the threshold.  [default: 1/1]",
        ),
        click.option(
            "--minimum-duration",
            type=Duration(),
            help="It opens only when that has gone on for so long, such as 30s or 5m.",
        ),
        click.option(
            "--close-after",
            type=click.IntRange(min=1),
            metavar="N",
            help=f"It closes after so many calm scores in a row.  [default: {AlertPolicy().quiet}]",
        ),
        click.option(
            "--cool-down",
            type=Duration(),
            help="None opens for so long after one has closed, such as 1h.",
        ),
        click.option(
            "--release",
            type=Percentage(),
            metavar="SHARE",
            help="A score is calm up to this share of the threshold, such as 80%; default: "
            "half-way to it from where the tail of the scores starts.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def take_detection(options: dict[str, Any]) -> Chosen:
    """Takes the options of `detection_options` out of a command's options.

    Args:
        options: of the command; those of the detection are no longer among them afterwards.

    Raises:
        ConfigurationError: two budgets are given, or an alert could never open.
    """
    given = {name: options.pop(name) for name in _NAMES}
    budget = as_budget(given["false_alarms_per_day"], given["false_alarms_per_month"])
    k, n = given["open_after"] or (None, None)
    policy = {
        "k": k,
        "n": n,
        "minimum_duration": given["minimum_duration"],
        "quiet": given["close_after"],
        "cool_down": given["cool_down"],
        "release": given["release"],
    }
    changed = {name: value for name, value in policy.items() if value is not None}
    return {
        "false_alarms_per_day": budget,
        "policy": AlertPolicy(**changed) if changed else None,
        "threshold": given["threshold"],
    }
