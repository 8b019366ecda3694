"""Full int8, tuned: the form and the ranges that lose least on readings that gave no ranges."""

from __future__ import annotations

from collections.abc import Callable

from edgelstm_quantize import flatbuffer
from edgelstm_quantize.calibration import Ranges
from edgelstm_quantize.forms import Form, Forms
from edgelstm_quantize.progress import Progress
from edgelstm_quantize.quantization import QuantizedGraph
from edgelstm_quantize.refine import Judge, groups_of_units, rollout, search_clips
from edgelstm_quantize.step_graph import StepGraph
from edgelstm_quantize.tflite import open_reference, signature
from edgelstm_quantize.tracing import states_of

_FEWEST = 100  # later readings; on fewer, what helps is luck
_MOST = 1000  # readings that a trial takes of each feed
_WORTH_GROUPS = 0.05  # groups cost time at every step

Maker = Callable[[Form, Ranges], QuantizedGraph]
"""Quantises a form with ranges."""


def tune(
    forms: Forms, make: Maker, float_graph: Maker, *, groups: bool, on_progress: Progress
) -> tuple[Form, Ranges]:
    """Chooses the form and the ranges for full int8.

    Args:
        forms: of the model.
        make: quantises.
        float_graph: describes the form's float model as it is.
        groups: whether cell states may be in groups.
        on_progress: told how far it is.
    """
    form = forms.get("int8")
    feeds = [
        {name: values[:_MOST] for name, values in feed.items()}
        for feed in forms.tuning_feeds("int8")
        if len(next(iter(feed.values()))) >= _FEWEST
    ]
    steps = form.steps
    if form.later is None or not feeds or not isinstance(steps, StepGraph):
        return form, form.calibration.ranges
    reference = float_graph(form, {})
    judge = Judge(feeds, [rollout(reference, feed) for feed in feeds])
    if groups:
        form, steps = _with_groups_if_better(forms, form, steps, make, judge)
    factors = _factors(form, steps, make, judge, on_progress)
    ranges = form.calibration.ranges
    return form, {
        name: (low * factors.get(name, 1.0), high * factors.get(name, 1.0))
        for name, (low, high) in ranges.items()
    }


def _with_groups_if_better(
    forms: Forms, form: Form, steps: StepGraph, make: Maker, judge: Judge
) -> tuple[Form, StepGraph]:
    groups = groups_of_units(forms.graph, steps.state_owners, form.calibration)
    if not groups:
        return form, steps
    grouped = forms.grouped(groups)
    plain, split = (judge(make(f, f.earlier.ranges)) for f in (form, grouped))
    if split.improves(plain, _WORTH_GROUPS) and isinstance(grouped.steps, StepGraph):
        return grouped, grouped.steps
    return form, steps


def _factors(
    form: Form, steps: StepGraph, make: Maker, judge: Judge, on_progress: Progress
) -> dict[str, float]:
    """By how much the range of each tensor is to shrink."""

    def report(done: int, total: int) -> None:
        on_progress("searching for better ranges", done, total)

    ranges = form.earlier.ranges
    found = search_clips(
        lambda tried: make(form, tried), judge, ranges, _tensors(form, steps), report
    )
    return {
        name: found[name][1] / high if high else found[name][0] / low
        for name, (low, high) in ranges.items()
        if found[name] != (low, high)
    }


def _tensors(form: Form, steps: StepGraph) -> list[list[str]]:
    """What shrinks together: of each LSTM layer its cell states, and its products of them.

    Not the inputs, outputs and hidden states: where they clip, a sensor that leaves its recorded
    range is no longer followed, and the later readings of one recording do not show it.
    """
    details = signature(open_reference(form.float_model))
    ends = {str(d["name"]) for d in (details.inputs | details.outputs).values()}
    found: list[list[str]] = []
    states = states_of(steps)
    for scope in dict.fromkeys(steps.state_scopes):
        own = [s for s, owner in zip(states, steps.state_scopes, strict=True) if owner == scope]
        cells = own[1:]  # the first is the hidden state
        if cells:
            found.append(
                [str(details.inputs[s.name]["name"]) for s in cells]
                + [str(details.outputs[s.output_name]["name"]) for s in cells]
            )
            products = flatbuffer.outputs_of(form.float_model, "MUL", scope)
            found.append([name for name in products if name not in ends])
    known = form.earlier.ranges.keys()
    return [names for names in found if names and known >= set(names)]
