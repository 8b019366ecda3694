"""The forms of a model: float TFLite graphs, each fit for some arithmetic, and calibrated.

The readings before the held-out ones are in two parts: ranges of full int8 are tuned on the later
part, which had no say in the ranges of the earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm.recording import Recording
from edgelstm_quantize.calibration import (
    Calibration,
    Feed,
    calibrate,
    require_states,
    with_excursions,
)
from edgelstm_quantize.description import Purpose
from edgelstm_quantize.forward import window_ends
from edgelstm_quantize.layer_graph import LayerGraph
from edgelstm_quantize.progress import Progress
from edgelstm_quantize.recipes import Arithmetic
from edgelstm_quantize.rim import Rim, channels_of
from edgelstm_quantize.rounding import round_weights, sources
from edgelstm_quantize.step_graph import Groups, StepGraph
from edgelstm_quantize.tracing import Steps, states_of, to_tflite
from edgelstm_quantize.window_graph import WindowGraph

_EARLIER = 0.8  # of the readings before the held-out ones
_WINDOWS = 1000  # at most so many windows calibrate


@dataclass(frozen=True)
class Form:
    """A float graph and what its calibration saw.

    Attributes:
        steps: the graph as a function.
        float_model: as TFLite, in canonical form.
        earlier: calibration on the earlier readings.
        later: calibration on the later ones; None when they are too few for one.
    """

    steps: Steps
    float_model: bytes
    earlier: Calibration
    later: Calibration | None
    _rounded: dict[bool, bytes] = field(default_factory=dict)

    @cached_property
    def calibration(self) -> Calibration:
        """On all readings before the held-out ones."""
        return self.earlier.merged(self.later) if self.later else self.earlier

    def rounded(self, *, per_channel: bool) -> bytes:
        """The float model with its weights on the int8 grid."""
        if per_channel not in self._rounded:
            self._rounded[per_channel] = round_weights(
                self.float_model, self.calibration.activations, per_channel=per_channel
            )
        return self._rounded[per_channel]


class Forms:
    """Makes forms, each once.

    Args:
        graph: the model, laid open.
        rim: the scaling at its ends.
        recordings: to calibrate on.
        readings: how many of them, in order; the rest is held out.
        purpose: what the model is for.
        on_progress: told what is going on.
    """

    def __init__(
        self,
        graph: LayerGraph,
        rim: Rim,
        recordings: list[Recording],
        readings: int,
        purpose: Purpose,
        on_progress: Progress,
    ) -> None:
        self.graph = graph
        self._rim, self._recordings, self._readings = rim, recordings, readings
        self._window, self._hop = purpose.window, purpose.hop
        self._on_progress = on_progress
        self._made: dict[Arithmetic, Form] = {}

    def rim(self, arithmetic: Arithmetic) -> Rim:
        """The scaling at the ends of the graph, which floats have within."""
        return self._rim.within if arithmetic == "float32" else self._rim

    def get(self, arithmetic: Arithmetic) -> Form:
        """The form for some arithmetic.

        Raises:
            RecordingError: the recordings say nothing about the states or hold no window.
            ConversionError: TFLite cannot compute the model.
        """
        if arithmetic not in self._made:
            self._made[arithmetic] = self._make(arithmetic, None)
        return self._made[arithmetic]

    def any(self) -> Form:
        """A form that is there already, or one made now."""
        return next(iter(self._made.values()), None) or self.get("int8")

    def grouped(self, groups: Groups) -> Form:
        """The form for int8 with cell states in groups of units."""
        return self._make("int8", groups)

    def feeds(self, arithmetic: Arithmetic, start: int, stop: int) -> list[Feed]:
        """The readings from `start` to `stop`, counted over all recordings, as inputs."""
        clips = {
            end.name: None if arithmetic == "float32" else scaling.clip
            for end, scaling in zip(self.graph.inputs, self._rim.inputs, strict=True)
        }
        feeds: list[Feed] = []
        passed = 0
        for recording in self._recordings:
            part = slice(max(0, start - passed), max(0, stop - passed))
            passed += len(recording)
            values = recording.values[part]
            if self._window:
                values = self._windows(values)
            if len(values):
                feeds += with_excursions(self._feed(values, arithmetic), clips)
        return feeds

    def tuning_feeds(self, arithmetic: Arithmetic) -> list[Feed]:
        """The later readings."""
        return self.feeds(arithmetic, int(self._readings * _EARLIER), self._readings)

    def _make(self, arithmetic: Arithmetic, groups: Groups | None) -> Form:
        self._on_progress("converting to TFLite", 0, 1)
        rim = self.rim(arithmetic)
        steps: Steps = (
            WindowGraph(self.graph, rim, arithmetic=arithmetic)
            if self._window
            else StepGraph(self.graph, rim, arithmetic=arithmetic, groups=groups)
        )
        float_model = to_tflite(steps, self._window)
        cut = int(self._readings * _EARLIER)
        earlier, later = (
            self._calibrate(steps, float_model, self.feeds(arithmetic, start, stop))
            for start, stop in ((0, cut), (cut, self._readings))
        )
        if earlier is None:
            earlier, later = later, None
        if earlier is None:
            raise RecordingError(
                "The calibration recordings are too short: no window is left after a fifth is "
                "held out; record for longer, or choose a shorter --window."
            )
        form = Form(steps, float_model, earlier, later)
        require_states(form.calibration)
        return form

    def _calibrate(self, steps: Steps, float_model: bytes, feeds: list[Feed]) -> Calibration | None:
        if not feeds:
            return None
        return calibrate(
            float_model,
            states_of(steps),
            feeds,
            self._on_progress,
            watched=sources(float_model),
        )

    def _windows(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Windows of readings, (windows, window, channels)."""
        window = self._window or 1
        ends = window_ends(len(values), window, self._hop)
        few = np.linspace(0, len(ends) - 1, min(len(ends), _WINDOWS)).astype(int)
        parts = [values[ends[i] - window : ends[i]] for i in few]
        return np.stack(parts) if parts else values[:0]

    def _feed(self, values: NDArray[np.float64], arithmetic: Arithmetic) -> Feed:
        """Readings, (..., channels), as the inputs of a float model."""
        feed: dict[str, NDArray[Any]] = {}
        start = 0
        for end, scaling in zip(self.graph.inputs, self._rim.inputs, strict=True):
            part = values[..., start : start + channels_of(end)]
            start += channels_of(end)
            if len(end.tensor.shape) == 2:
                feed[end.name] = part[..., 0].astype(np.int32)
            else:
                z = part if arithmetic == "float32" else scaling.normalise(part)
                feed[end.name] = z.astype(np.float32)
        return feed
