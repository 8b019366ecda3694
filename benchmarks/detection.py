"""Detection on labelled recordings, the whole chain: `python benchmarks/detection.py DATA`.

DATA is a folder with SKAB (`skab/data`) and NAB (`nab/data`, `nab/labels`) as their repositories
have them, or with parts of them; neither is part of this project. Every series goes through
`train` on its first rows, `quantize` with three recipes, and `score`: one configuration, the
defaults, for all. What is judged are the rows after. Takes half an hour at first; what is computed
is kept in `build/detection`.

Prints Markdown and exits with 1 when a bar does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from bars import Bar, print_bars
from detection_chain import READINGS_PER_ALARM, RECIPES, Job, run
from detection_data import (
    PUBLISHED_NAB,
    PUBLISHED_SKAB,
    LabelledSeries,
    nab,
    skab_anomaly_free,
    skab_other,
)
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.evaluation import ridge
from edgelstm.evaluation.judging import DETECTOR, Figures, Series, Track, judge
from edgelstm.evaluation.nab import nab_score

_SHIPPED = RECIPES[0]
_DAY_S = 86_400.0
_JOBS_OF_A_PROCESS = 12


@dataclass(frozen=True)
class Run:
    """A series and what one seed made of it: see `detection_chain.run` for the arrays."""

    series: LabelledSeries
    seed: int
    arrays: Mapping[str, NDArray[Any]]

    def judged(self, tracks: Mapping[str, Track]) -> Series:
        """The rows after the prefix, to be judged."""
        one = self.series
        return Series(
            one.name,
            one.recording.timestamps,
            one.labels,
            one.recording.sample_period,
            tracks,
            one.prefix,
        )

    def track(self, name: str) -> Track:
        """Of a recipe, or of a budget."""
        return Track(
            self.arrays[f"{name}/alarm"],
            self.arrays[f"{name}/onsets"],
            self.arrays.get(f"{name}/scores"),
        )


def main() -> int:
    """Runs what is not in the cache, prints the tables, and says whether the bars hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Help)
    parser.add_argument("data", type=Path, help="folder with skab and nab")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("build/detection"))
    parser.add_argument("--only", choices=["skab", "nab"])
    options = parser.parse_args()
    groups: dict[str, list[LabelledSeries]] = {}
    if options.only != "nab":
        groups["skab"] = skab_other(options.data)
        groups["free"] = [skab_anomaly_free(options.data)]
    if options.only != "skab":
        groups["nab"] = nab(options.data)
    runs = _run_all(groups, options.seeds, options.jobs, options.cache)
    bars: list[Bar] = []
    if "skab" in runs:
        bars += _skab(runs["skab"]) + _anomaly_free(runs["free"])
    if "nab" in runs:
        bars += _nab(runs["nab"])
    bars += _chain([run for group in runs.values() for run in group])
    return 0 if print_bars(bars) else 1


class _Help(argparse.RawDescriptionHelpFormatter):
    """The text at the top as it is."""


def _run_all(
    groups: Mapping[str, Sequence[LabelledSeries]], seeds: int, jobs: int, cache: Path
) -> dict[str, list[Run]]:
    wanted = [
        (group, one, seed) for seed in range(seeds) for group, of in groups.items() for one in of
    ]
    runs: dict[str, list[Run]] = {group: [] for group in groups}
    for start in range(0, len(wanted), jobs * _JOBS_OF_A_PROCESS):
        part = wanted[start : start + jobs * _JOBS_OF_A_PROCESS]
        # New processes for each part: TensorFlow does not survive a fork, and keeps what it took.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = {
                pool.submit(run, Job(one.name, one.recording, one.prefix, seed), cache): (
                    group,
                    one,
                    seed,
                )
                for group, one, seed in part
            }
            for done, future in enumerate(as_completed(futures), start=start + 1):
                group, one, seed = futures[future]
                try:
                    with np.load(future.result()) as arrays:
                        runs[group].append(Run(one, seed, dict(arrays)))
                except RecordingError as error:
                    print(f"{one.name}, seed {seed}: {error}", file=sys.stderr)
                print(f"\r{done} of {len(wanted)} ", end="", file=sys.stderr)
    print(file=sys.stderr)
    for of in runs.values():
        of.sort(key=lambda r: (r.seed, r.series.name))
    return runs


def _seeds(runs: Sequence[Run]) -> list[list[Run]]:
    return [[r for r in runs if r.seed == seed] for seed in sorted({r.seed for r in runs})]


def _figures(runs: Sequence[Run], name: str, floors: bool = False) -> dict[str, Figures]:
    """Of one seed, with a recipe or at a budget."""
    series = []
    for one in runs:
        tracks = {DETECTOR: one.track(name)}
        if floors:
            tracks["ridge"] = _ridge(one)
        series.append(one.judged(tracks))
    return judge(series, draws=200)


def _ridge(one: Run) -> Track:
    recording, prefix = one.series.recording, one.series.prefix
    period = recording.sample_period
    targets = range(len(recording.channels))
    watched = ridge.watch(
        ridge.forecast(recording.values, targets, prefix),
        recording.values,
        recording.timestamps,
        targets,
        ridge.Rules(_DAY_S / period / float(one.arrays["budget"]), period),
    )
    return Track(watched.alarm, watched.onsets, watched.scores)


def _mean(figures: Sequence[Figures], name: str) -> float:
    return float(np.mean([getattr(f, name) for f in figures]))


def _spread(figures: Sequence[Figures], name: str) -> str:
    values = [getattr(f, name) for f in figures]
    return f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def _skab(runs: Sequence[Run]) -> list[Bar]:
    """SKAB's `other`: rows against labels, by SKAB's own definitions."""
    seeds = _seeds(runs)
    by_recipe = {recipe: [_figures(s, recipe)[DETECTOR] for s in seeds] for recipe in RECIPES}
    floors = _figures(seeds[0], _SHIPPED, floors=True)
    print(f"## SKAB `other`, {len(seeds[0])} files, {len(seeds)} seeds\n")
    print("| | F1 | FAR % | MAR % | J | VUS-PR |\n|---|---|---|---|---|---|")
    for recipe, figures in by_recipe.items():
        print(
            f"| **{recipe}** | {_mean(figures, 'point_f1'):.2f} "
            f"| {_spread(figures, 'false_alarm_rate')} | {_spread(figures, 'missed_alarm_rate')} "
            f"| {_spread(figures, 'j')} | {_mean(figures, 'vus_pr'):.2f} |"
        )
    for readings in READINGS_PER_ALARM:
        figures = [_figures(s, str(readings))[DETECTOR] for s in seeds]
        print(
            f"| {_SHIPPED}, one alarm in {readings:,} | {_mean(figures, 'point_f1'):.2f} "
            f"| {_spread(figures, 'false_alarm_rate')} | {_spread(figures, 'missed_alarm_rate')} "
            f"| {_spread(figures, 'j')} | |"
        )
    for name in ("ridge", "clock", "always_on", "random"):
        f = floors[name]
        print(
            f"| floor: {name} | {f.point_f1:.2f} | {f.false_alarm_rate:.1f} "
            f"| {f.missed_alarm_rate:.1f} | {f.j:.1f} | {f.vus_pr:.2f} |"
        )
    for row in PUBLISHED_SKAB:
        print(
            f"| {row.method}, {row.source} | {row.f1:.2f} | {row.false_alarm_rate:.1f} "
            f"| {row.missed_alarm_rate:.1f} | {row.j:.1f} | |"
        )
    j = {recipe: _mean(figures, "j") for recipe, figures in by_recipe.items()}
    far = _mean(by_recipe[_SHIPPED], "false_alarm_rate")
    return [
        Bar(f"SKAB other, {_SHIPPED}, J", j[_SHIPPED], 54, at_least=True),
        Bar(f"SKAB other, {_SHIPPED}, FAR %", far, 16, at_least=False),
        Bar(f"{_SHIPPED} from float32, J", abs(j[_SHIPPED] - j["float32"]), 1, at_least=False),
        Bar("int8 from float32, J", abs(j["int8"] - j["float32"]), 3, at_least=False),
    ]


def _anomaly_free(runs: Sequence[Run]) -> list[Bar]:
    print("\n## SKAB anomaly-free: nothing happens in 9,005 readings\n")
    print("| one alarm in | granted | alarms, per seed | in alarm % |\n|---|---|---|---|")
    most = 0
    for name in (_SHIPPED, *map(str, READINGS_PER_ALARM)):
        n = float(runs[0].arrays["budget"]) if name == _SHIPPED else float(name)
        part = slice(runs[0].series.prefix, None)
        onsets = [int(r.arrays[f"{name}/onsets"][part].sum()) for r in runs]
        share = np.mean([r.arrays[f"{name}/alarm"][part].mean() for r in runs])
        scored = len(runs[0].series.recording) - runs[0].series.prefix
        label = f"{n:,.0f}" + (" (default)" if name == _SHIPPED else "")
        print(f"| {label} | {scored / n:.1f} | {', '.join(map(str, onsets))} | {share:.1%} |")
        if name == "1100":
            most = max(onsets)
    return [Bar("anomaly-free, alarms at one in 1,100", most, 8, at_least=False, form="{:.0f}")]


def _nab(runs: Sequence[Run]) -> list[Bar]:
    """NAB: alerts against windows."""
    seeds = _seeds(runs)
    print(f"\n## NAB, {len(seeds[0])} series, {len(seeds)} seeds\n")
    print(
        "| | windows found | precision | event F1 | VUS-PR | false alarms a day | NAB score |\n"
        "|---|---|---|---|---|---|---|"
    )
    by_recipe = {recipe: [_figures(s, recipe)[DETECTOR] for s in seeds] for recipe in RECIPES}
    for recipe, figures in by_recipe.items():
        scores = [_nab_score(s, recipe) for s in seeds]
        print(
            f"| **{recipe}** | {_mean(figures, 'found'):.1f} of {figures[0].events:.0f} "
            f"| {_mean(figures, 'precision'):.2f} | {_mean(figures, 'event_f1'):.3f} "
            f"| {_mean(figures, 'vus_pr'):.2f} | {_mean(figures, 'false_alarms_per_day'):.3f} "
            f"| {np.mean(scores):.1f} |"
        )
    floors = _figures(seeds[0], _SHIPPED, floors=True)
    for name in ("ridge", "clock", "random"):
        f = floors[name]
        print(
            f"| floor: {name} | {f.found:.1f} of {f.events:.0f} | {f.precision:.2f} "
            f"| {f.event_f1:.3f} | {f.vus_pr:.2f} | {f.false_alarms_per_day:.3f} | |"
        )
    for row in PUBLISHED_NAB:
        print(f"| {row.method}, {row.source} | | | | | | {row.nab:.1f} |")
    print("\nFalse alarms outside the windows, over what was granted:\n")
    print(
        "| one alarm in | granted | alarms, per seed | ratio | series over 3 times |\n"
        "|---|---|---|---|---|"
    )
    ratio = 0.0
    for name in (_SHIPPED, *map(str, READINGS_PER_ALARM)):
        got = [sum(_outside(one, name)[0] for one in s) for s in seeds]
        granted = float(np.mean([sum(_outside(one, name)[1] for one in s) for s in seeds]))
        worst = float(np.mean(got)) / granted
        label = "default" if name == _SHIPPED else f"{int(name):,}"
        over = np.mean([sum(_over(*_outside(one, name)) for one in s) for s in seeds])
        print(
            f"| {label} | {granted:.0f} | {', '.join(map(str, got))} | {worst:.2f} | {over:.1f} |"
        )
        ratio = max(ratio, worst)
    f1 = _mean(by_recipe[_SHIPPED], "event_f1")
    floor = floors["ridge"].event_f1 or 0.0
    return [
        Bar("NAB, event F1 over the ridge floor's", f1 - floor, 0, at_least=True, form="{:+.3f}"),
        Bar("NAB, false alarms over the budget, worst budget", ratio, 3, at_least=False),
    ]


def _outside(one: Run, name: str) -> tuple[int, float]:
    """Alarms outside the windows, and how many were granted for the readings there."""
    budget = float(one.arrays["budget"]) if name == _SHIPPED else float(name)
    rest = slice(one.series.prefix, None)
    normal = ~one.series.labels.anomalous[rest]
    return int(one.arrays[f"{name}/onsets"][rest][normal].sum()), normal.sum() / budget


def _over(alarms: int, granted: float) -> bool:
    """Whether a series is over three times its budget; one alarm alone tells nothing."""
    return alarms > 1 and alarms > 3 * granted


def _nab_score(runs: Sequence[Run], recipe: str) -> float:
    judged = [one.judged({DETECTOR: one.track(recipe)}) for one in runs]
    score = nab_score([(s.alerts[DETECTOR], s.labels.events) for s in judged])
    return float("nan") if score is None else score


def _chain(runs: Sequence[Run]) -> list[Bar]:
    print("\n## The chain\n")
    seconds = [float(r.arrays["seconds"]) for r in runs]
    print(
        f"Training took {np.median(seconds):.1f} s (median; at most {max(seconds):.1f} s); "
        "horizons: "
        + ", ".join(
            f"{horizon} x {count}"
            for horizon, count in zip(
                *np.unique([int(r.arrays["horizon"]) for r in runs], return_counts=True),
                strict=True,
            )
        )
        + "."
    )
    told = sum(not bool(r.arrays["causal"]) for r in runs)
    return [
        Bar(
            "series whose scores change when the future is cut off",
            told,
            0,
            at_least=False,
            form="{:.0f}",
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
