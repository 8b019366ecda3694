"""Whether a budget of false alarms holds where nothing happens: `python benchmarks/budget.py`.

Simulated recordings of normal operation of many kinds, which a linear autoregression forecasts (the
floor of `edgelstm evaluate`: it is the scoring that is on trial, not the forecast). The first rows
calibrate, the other 30,000 are watched by the scorer, the threshold and the alert rule that a
device has, at budgets of one false alarm in 500 to 10,000 readings. `--plot FILE.png` draws it.

Prints Markdown and exits with 1 when a rate is over three times its budget.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from bars import Bar, print_bars
from numpy.typing import NDArray

from edgelstm.calibrating import calibrate, judge, score
from edgelstm.detectors import THRESHOLDS
from edgelstm.evaluation import ridge

Floats = NDArray[np.float64]

BUDGETS = (500, 1000, 2000, 10_000)
CALIBRATIONS = ((400, 8), (750, 1), (5000, 1), (5000, 8))
"""Readings that calibrate, and channels."""
WATCHED = 30_000
_PERIOD_S = 60.0
_DAY = 288  # readings


def _white(rng: np.random.Generator, n: int, k: int) -> Floats:
    return rng.normal(size=(n, k))


def _ar(phi: float) -> Callable[[np.random.Generator, int, int], Floats]:
    def make(rng: np.random.Generator, n: int, k: int) -> Floats:
        x = rng.normal(size=(n, k))
        for i in range(1, n):
            x[i] += phi * x[i - 1]
        return x

    return make


def _wandering_mean(rng: np.random.Generator, n: int, k: int) -> Floats:
    return _ar(0.5)(rng, n, k) + np.cumsum(0.03 * rng.normal(size=(n, k)), axis=0)


def _wandering_noise(rng: np.random.Generator, n: int, k: int) -> Floats:
    return _white(rng, n, k) * np.exp(np.cumsum(0.005 * rng.normal(size=(n, 1)), axis=0))


def _growing_noise(rng: np.random.Generator, n: int, k: int) -> Floats:
    return _white(rng, n, k) * np.linspace(1, 1.5, n)[:, np.newaxis]


def _season(rng: np.random.Generator, n: int, k: int) -> Floats:
    return 0.3 * _white(rng, n, k) + 3 * np.sin(2 * np.pi * np.arange(n) / _DAY)[:, np.newaxis]


def _seasonal_noise(days: int) -> Callable[[np.random.Generator, int, int], Floats]:
    def make(rng: np.random.Generator, n: int, k: int) -> Floats:
        phase = 2 * np.pi * np.arange(n) / _DAY / days
        return _white(rng, n, k) * (1 + 0.5 * np.sin(phase))[:, np.newaxis]

    return make


def _heavy(rng: np.random.Generator, n: int, k: int) -> Floats:
    return rng.standard_t(4, size=(n, k))


def _laplace(rng: np.random.Generator, n: int, k: int) -> Floats:
    return rng.laplace(size=(n, k))


KINDS: Mapping[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "white noise": _white,
    "AR(1), 0.9": _ar(0.9),
    "AR(1), 0.99": _ar(0.99),
    "wandering mean": _wandering_mean,
    "wandering noise": _wandering_noise,
    "noise x 1.5 in time": _growing_noise,
    "season": _season,
    "noise with a season": _seasonal_noise(1),
    "noise, long season": _seasonal_noise(7),
    "Laplace noise": _laplace,
    "heavy tail, t(4)": _heavy,
}


def main() -> int:
    """Runs everything, prints a table, and says whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threshold", choices=THRESHOLDS, default=THRESHOLDS[0])
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    heads = [f"{n:,} x {k}" for n, k in CALIBRATIONS]
    print(
        f"Alarms over what was granted, at one in {', '.join(f'{n:,}' for n in BUDGETS)} readings; "
        f"{options.seeds} x {WATCHED:,} readings each, after a calibration of readings x "
        "channels\n"
    )
    print(f"| | {' | '.join(heads)} |\n|---{'|---' * len(heads)}|")
    found: dict[str, list[list[float]]] = {}
    for kind, make in KINDS.items():
        rows = [
            _ratios(make, readings, channels, options.seeds, options.threshold)
            for readings, channels in CALIBRATIONS
        ]
        found[kind] = rows
        cells = [", ".join(f"{ratio:.1f}" for ratio in row) for row in rows]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)
    ratios = np.array(list(found.values()))
    print(
        f"\nMedian {np.median(ratios):.2f}; {np.mean(ratios <= 3):.0%} within 3 times the budget; "
        f"{np.mean((ratios <= 3) & (ratios >= 1 / 3)):.0%} within a third and 3 times."
    )
    if options.plot:
        _draw(found, options.plot)
    worst = float(ratios.max())
    return 0 if print_bars([Bar("worst rate over its budget", worst, 3, at_least=False)]) else 1


def _ratios(
    make: Callable[[np.random.Generator, int, int], Floats],
    readings: int,
    channels: int,
    seeds: int,
    threshold: str,
) -> list[float]:
    """Alarms over what was granted, for each budget."""
    alarms = np.zeros(len(BUDGETS))
    targets = range(channels)
    for seed in range(seeds):
        values = make(np.random.default_rng(seed), readings + WATCHED, channels)
        forecasts = ridge.forecast(values, targets, readings)
        detection = calibrate(
            forecasts.held_out,
            values[:readings],
            targets=targets,
            residuals_kind="out-of-fold",
            false_alarms_per_day=1.0,
            threshold=threshold,
        )
        scores = score(forecasts.residuals, detection)[readings:]
        for i, budget in enumerate(BUDGETS):
            at = dataclasses.replace(detection, false_alarms_per_day=86_400 / _PERIOD_S / budget)
            alarms[i] += len(judge(scores, at, _PERIOD_S).onsets)
    granted = seeds * WATCHED / np.array(BUDGETS)
    return (alarms / granted).tolist()  # type: ignore[no-any-return]  # tolist of unknown depth


def _draw(found: Mapping[str, list[list[float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, len(CALIBRATIONS), sharey=True, sharex=True)
    places = np.arange(len(found))[::-1]
    for j, (axes, (readings, channels)) in enumerate(zip(panels, CALIBRATIONS, strict=True)):
        axes.axvspan(1 / 3, 3, color="#e8f0e8", lw=0)
        axes.axvline(1, color="#999999", lw=0.8)
        for i, budget in enumerate(BUDGETS):
            values = [max(rows[j][i], 0.04) for rows in found.values()]
            axes.scatter(
                values,
                places + 0.25 - 0.17 * i,
                s=14,
                label=f"one in {budget:,}" if not j else None,
            )
        axes.set_xscale("log")
        axes.set_xlim(0.03, 12)
        axes.set_xticks([0.1, 1 / 3, 1, 3, 10], ["0.1", "1/3", "1", "3", "10"], minor=False)
        axes.minorticks_off()
        title = f"{readings:,} readings x {channels}"
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(places, list(found))
    figure.supxlabel("false alarms over what was granted, by what calibrated", fontsize=9)
    figure.legend(loc="outside upper center", ncols=len(BUDGETS), frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    sys.exit(main())
