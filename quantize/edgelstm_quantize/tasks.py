"""What a model is for: what its training noted, what the user says, or what its shape suggests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from edgelstm.errors import ConfigurationError, ModelError
from edgelstm_quantize.keras_files import TrainingRecord
from edgelstm_quantize.layer_graph import LayerGraph
from edgelstm_quantize.rim import channels_of

TASKS = ("forecast", "reconstruction", "none")


@dataclass(frozen=True)
class Task:
    """What the outputs are: see `Manifest.task`.

    Attributes:
        name: "forecast", "reconstruction" or "none".
        horizon: steps ahead of a forecast; else 0.
        targets: the channels that a forecast is of, in order; else empty.
    """

    name: str
    horizon: int = 0
    targets: tuple[str, ...] = ()


NOTHING = Task("none")


@dataclass(frozen=True)
class Wish:
    """What the user says of a model; None, or nothing, for what they do not."""

    task: str | None = None
    horizon: int | None = None
    targets: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.task not in (*TASKS, None):
            raise ConfigurationError(f"No task is called {self.task!r}; try {', '.join(TASKS)}.")
        if self.horizon is not None and self.horizon < 0:
            raise ModelError(
                f"The horizon is {self.horizon} steps; a forecast is of a later reading, and 0 is "
                "for a model that forecasts nothing."
            )
        if (self.task == "forecast" and self.horizon == 0) or (
            self.task not in ("forecast", None) and (self.horizon or self.targets)
        ):
            raise ConfigurationError(
                f"--task {self.task} does not go with --horizon or --target; leave out one of them."
            )


def decide(
    graph: LayerGraph,
    channels: Sequence[str],
    window: int | None,
    record: TrainingRecord | None,
    wish: Wish,
) -> Task:
    """What the outputs of a model are.

    Args:
        graph: the model, laid open.
        channels: names of its channels, in order.
        window: readings in a window; None for a stream.
        record: what its training noted, if it did.
        wish: what the user says.

    Raises:
        ConfigurationError: the user says what the training contradicts, or names no channels.
    """
    if wish.task == "none" or wish.horizon == 0:
        return NOTHING
    if record:
        return _trained(record, window, wish)
    if wish.task == "reconstruction":
        _require_window(window)
        return Task("reconstruction")
    if wish.targets:
        if unknown := [name for name in wish.targets if name not in channels]:
            raise ConfigurationError(
                f"The target {unknown[0]!r} is none of the channels {', '.join(channels)}."
            )
        return Task("forecast", wish.horizon or 1, tuple(wish.targets))
    if wish.horizon or wish.task or _looks_like_a_forecast(graph, window):
        return Task("forecast", wish.horizon or 1, tuple(channels))
    return NOTHING


def _trained(record: TrainingRecord, window: int | None, wish: Wish) -> Task:
    """What the training noted, which the user cannot change."""
    noted = Task(record.task, record.horizon, record.targets)
    if noted.name == "reconstruction":
        _require_window(window)
        noted = Task("reconstruction")
    said = Task(
        wish.task or noted.name,
        noted.horizon if wish.horizon is None else wish.horizon,
        noted.targets if not wish.targets else tuple(wish.targets),
    )
    if said != noted:
        what = f"to forecast {', '.join(noted.targets)} {noted.horizon} readings ahead"
        if noted.name == "reconstruction":
            what = "to reconstruct its window"
        raise ConfigurationError(
            f"The model was trained {what}: leave out --task, --horizon and --target, or train it "
            "again."
        )
    return noted


def _require_window(window: int | None) -> None:
    if window is None:
        raise ConfigurationError(
            "A stream gives back one reading at a time, so it reconstructs no window; convert the "
            "model with --mode window."
        )


def _looks_like_a_forecast(graph: LayerGraph, window: int | None) -> bool:
    """Whether a model gives as many numbers as it takes, and chooses between none."""
    if len(graph.outputs) > 1 or any(len(end.tensor.shape) == 2 for end in graph.inputs):
        return False
    tensor = graph.outputs[0].tensor
    last = next((call.operation for call in graph.calls if call.output is tensor), None)
    chooses = getattr(last, "activation", None) is keras.activations.softmax
    numbers = tensor.shape[-1] if window is None else math.prod(tensor.shape[1:])
    return bool(numbers == sum(map(channels_of, graph.inputs)) and not chooses)
