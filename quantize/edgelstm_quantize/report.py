"""The report of a conversion: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from edgelstm.files import atomic_path, check_output
from edgelstm_quantize import flatbuffer
from edgelstm_quantize.calibration import Ranges
from edgelstm_quantize.drawing import BOX_HEIGHT, BOX_WIDTH, draw
from edgelstm_quantize.drift_plot import plot_drift
from edgelstm_quantize.recipes import RECIPES
from edgelstm_quantize.score_plot import plot_scores

if TYPE_CHECKING:
    from edgelstm_quantize.convert import Conversion
    from edgelstm_quantize.recipes import Recipe

_FAIR_CLIPPING = 0.01  # of what calibration saw; half a code of int8 is 0.2 %
_INTEGERS = {"int8": (-128, 127), "int16": (-32767, 32767)}  # int16 is symmetric


def write_report(conversion: Conversion, path: Path, *, force: bool = False) -> None:
    """Writes a page about a conversion. The same conversion gives the same bytes.

    Args:
        conversion: what came of `convert`.
        path: of the `.html` file.
        force: whether a file that exists may be replaced.

    Raises:
        OutputExistsError: it exists and `force` is false.
        ConfigurationError: it is no `.html` file, or its folder does not exist or cannot be
            written.
        OSError: the disk fails or is full.
    """
    check_output(path, force=force, suffix=".html")
    page = render_report(conversion)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_report(conversion: Conversion) -> str:
    """The page as text."""
    manifest = conversion.artifact.manifest
    recipe = RECIPES[manifest.recipe]
    tree = flatbuffer.read(conversion.artifact.flatbuffer)
    drawing = draw(conversion.graph)
    activations = list(_activations(tree, conversion.calibration.ranges))
    calibrated = conversion.calibrated
    return (
        page_environment()
        .get_template("report.html")
        .render(
            manifest=manifest,
            recipe=recipe,
            recipes=RECIPES,
            summary=conversion.summary,
            achieved=calibrated.summary if calibrated else None,
            scores=plot_scores(calibrated.scores, calibrated.judged) if calibrated else None,
            compiled=conversion.compiled,
            compilation=conversion.compilation,
            sizes=_sizes(conversion),
            figures=_figures(conversion, recipe),
            drift=plot_drift(conversion.drift),
            drawing=drawing,
            box_width=BOX_WIDTH,
            box_height=BOX_HEIGHT,
            parameters=sum(box.node.parameters or 0 for box in drawing.boxes),
            activations=activations,
            clipped=[a for a in activations if (a.clipped or 0) > _FAIR_CLIPPING],
            fair_clipping=_FAIR_CLIPPING,
            constants=list(_constants(tree)),
            recordings=[_Recorded.of(recording) for recording in conversion.recordings],
            readings=sum(map(len, conversion.recordings)),
            calibration_steps=conversion.calibration.steps,
        )
    )


def page_environment() -> jinja2.Environment:
    """Where the pages' templates and filters are."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgelstm_quantize"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "range": _range,
        "short": lambda text, length: text if len(text) <= length else f"{text[: length - 1]}…",
        "plural": lambda count, word: f"{count:,} {word}" if count == 1 else f"{count:,} {word}s",
    }
    return environment


def percent(share: float) -> str:
    """A share in percent: two decimals, or two digits of what is smaller than that shows."""
    if share == 0 or abs(share) >= 1e-3:
        return f"{share:.2%}"
    return np.format_float_positional(100 * share, precision=2, fractional=False, trim="-") + "%"


def number(value: float) -> str:
    """A number with four digits, as short as it can be."""
    return f"{value + 0.0:.4g}"  # no minus on a zero


def _range(limits: tuple[float, float]) -> str:
    low, high = map(number, limits)
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class _Size:
    """A model to compare: its name, its bytes, and its share of the largest."""

    name: str
    bytes: int
    share: float


def _sizes(conversion: Conversion) -> list[_Size]:
    manifest = conversion.artifact.manifest
    found = {"float32": conversion.float_bytes}
    found[f"{manifest.recipe} (this model)"] = manifest.flatbuffer_bytes
    if conversion.compiled:
        found["compiled for the Edge TPU"] = conversion.compiled.manifest.flatbuffer_bytes
    largest = max(found.values())
    return [_Size(name, size, size / largest) for name, size in found.items()]


@dataclass(frozen=True)
class _Figure:
    """A figure of the fidelity: its name, its value, what it means and what is good."""

    name: str
    value: str
    meaning: str
    good: str


def _figures(conversion: Conversion, recipe: Recipe) -> Iterator[_Figure]:
    fidelity = conversion.artifact.manifest.fidelity
    yield _Figure(
        "Relative error",
        percent(fidelity.relative_error),
        "How far the outputs of this model and of the Keras model are apart on average, relative "
        "to the usual size (rms) of the output.",
        f"The lower the better. With {recipe.name} a conversion above "
        f"{100 * recipe.largest_error:.3g}% counts as failed.",
    )
    yield _Figure(
        "Largest error",
        percent(fidelity.max_error),
        "The same for the one value that was furthest off.",
        "A few times the relative error. Much more means that single readings, often a range that "
        "calibration never saw, are reproduced badly.",
    )
    yield _Figure(
        "Drift",
        f"{fidelity.drift:.2f}",
        "The error over the last tenth of the steps, divided by that over the first tenth. The "
        "states are never reset in between within a recording.",
        "About 1: the error does not build up with time. It also moves when the signal itself "
        "becomes livelier or calmer; see the plot.",
    )
    if fidelity.correlation is None:
        value, good = "none", "The output is constant here, and then there is no correlation."
    else:
        value, good = f"{fidelity.correlation:.5f}", "1 is the same curve; 0 has nothing in common."
    yield _Figure(
        "Correlation",
        value,
        "How well the two outputs move together, for the worst of the targets.",
        good,
    )
    if fidelity.score_change is not None:
        yield _Figure(
            "Change of the anomaly score",
            percent(fidelity.score_change),
            "How much the anomaly scores of this model and of the Keras model differ on average, "
            "relative to the mean score.",
            "The lower the better; the threshold was set on the scores of this model, so a "
            "change does not by itself cause false alarms.",
        )


@dataclass(frozen=True)
class _Activation:
    """A tensor that is computed, put in or given out.

    Attributes:
        name: in the flatbuffer.
        role: its name in the signature, or "".
        dtype: of its values.
        shape: with the batch axis.
        scale: None for what is not quantised.
        zero_point: likewise.
        held: the lowest and the highest value that it can take; None for floats.
        seen: those that it took in the calibration run; None where it was not seen.
        clipped: how far `seen` sticks out of `held`, as a share of `seen`.
        used: the share of `held` that `seen` covers.
    """

    name: str
    role: str
    dtype: str
    shape: str
    scale: float | None
    zero_point: int | None
    held: tuple[float, float] | None
    seen: tuple[float, float] | None
    clipped: float | None
    used: float | None

    @property
    def bar(self) -> tuple[float, float] | None:
        """Where `seen` begins and ends within `held`, as shares of it, cut to 0 and 1."""
        if self.held is None or self.seen is None:
            return None
        low, high = self.held
        begin, end = (min(max((at - low) / (high - low), 0.0), 1.0) for at in self.seen)
        return begin, end


def _activations(tree: Any, ranges: Ranges) -> Iterator[_Activation]:
    graph = tree.subgraphs[0]
    roles = _roles(tree)
    weights = set(_dequantised_weights(tree))
    for index, tensor in enumerate(graph.tensors):
        if _data(tree, tensor) is not None or index in weights:
            continue
        name, dtype = tensor.name.decode(), _dtype(tensor)
        seen = ranges.get(name)
        scales, zero_points = _quantization(tensor)
        scale = zero_point = held = clipped = used = None
        if len(scales) == 1 and dtype in _INTEGERS:
            scale, zero_point = float(scales[0]), int(zero_points[0])
            lowest, highest = _INTEGERS[dtype]
            held = (lowest - zero_point) * scale, (highest - zero_point) * scale
            if seen:
                clipped, used = _clipping(seen, held, scale)
        yield _Activation(
            name, roles.get(index, ""), dtype, _shape(tensor), scale, zero_point, held, seen,
            clipped, used,
        )  # fmt: skip


def _dequantised_weights(tree: Any) -> Iterator[int]:
    """Constants once more, in float, where the graph itself turns them back."""
    graph = tree.subgraphs[0]
    for operator in graph.operators:
        if flatbuffer.operator_name(tree, operator) == "DEQUANTIZE":
            source = graph.tensors[operator.inputs[0]]
            if _data(tree, source) is not None:
                yield int(operator.outputs[0])


def _clipping(
    seen: tuple[float, float], held: tuple[float, float], scale: float
) -> tuple[float, float]:
    """What of `seen` sticks out of `held`, and what of `held` it covers, as shares."""
    below, above = max(0.0, held[0] - seen[0]), max(0.0, seen[1] - held[1])
    # A value that never moved has a range of a single code.
    width = max(seen[1] - seen[0], scale)
    covered = max(0.0, min(seen[1], held[1]) - max(seen[0], held[0]))
    return (below + above) / width, covered / (held[1] - held[0])


def _roles(tree: Any) -> dict[int, str]:
    """Index of a tensor -> what the signature calls it."""
    roles: dict[int, str] = {}
    for definition in tree.signatureDefs or []:
        for direction, entries in (("in", definition.inputs), ("out", definition.outputs)):
            for entry in entries:
                roles[int(entry.tensorIndex)] = f"{entry.name.decode()} ({direction})"
    return roles


@dataclass(frozen=True)
class _Constant:
    """A constant tensor: a weight, a bias or a setting of an operation.

    Attributes:
        name: in the flatbuffer.
        dtype: of its values.
        shape: of it.
        bytes: that it takes.
        scales: how many it has; 0 for what is not quantised.
        scale: the smallest and the largest; None without.
        values: the lowest and the highest real value; None for what is not numbers.
    """

    name: str
    dtype: str
    shape: str
    bytes: int
    scales: int
    scale: tuple[float, float] | None
    values: tuple[float, float] | None


def _constants(tree: Any) -> Iterator[_Constant]:
    for tensor in tree.subgraphs[0].tensors:
        data = _data(tree, tensor)
        if data is None:
            continue
        scales, _ = _quantization(tensor)
        values = _real(tensor, data)
        yield _Constant(
            tensor.name.decode(),
            _dtype(tensor),
            _shape(tensor),
            len(data),
            len(scales),
            _limits(scales),
            _limits(values),
        )


def _limits(values: NDArray[Any]) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if values.size else None


def _data(tree: Any, tensor: Any) -> bytes | None:
    data = tree.buffers[tensor.buffer].data
    return None if data is None or not len(data) else bytes(data)


def _real(tensor: Any, data: bytes) -> NDArray[Any]:
    """The real values of a constant; none for a type that holds no plain numbers."""
    dtype = _dtype(tensor)
    if dtype not in ("int8", "int16", "int32", "int64", "float16", "float32", "bool"):
        return np.empty(0)
    shape = () if tensor.shape is None else tuple(tensor.shape)
    raw = np.frombuffer(data, dtype).astype(np.float64).reshape(shape)
    scales, zero_points = _quantization(tensor)
    if not len(scales):
        return raw
    along = [1] * raw.ndim
    if len(scales) > 1:
        along[tensor.quantization.quantizedDimension] = -1
    return (raw - zero_points.reshape(along)) * scales.reshape(along)


def _quantization(tensor: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scales and zero points, both (scales,); empty for what is not quantised."""
    found = tensor.quantization
    if found is None or found.scale is None or not len(found.scale):
        return np.empty(0), np.empty(0, np.int64)
    return np.array(found.scale, np.float64), np.array(found.zeroPoint, np.int64)


def _dtype(tensor: Any) -> str:
    return _type_names()[tensor.type]


def _type_names() -> Mapping[int, str]:
    from ai_edge_litert.schema_py_generated import TensorType

    return {code: name.lower() for name, code in vars(TensorType).items() if name.isupper()}


def _shape(tensor: Any) -> str:
    sizes = [] if tensor.shape is None else [str(n) for n in tensor.shape]
    return " \N{MULTIPLICATION SIGN} ".join(sizes) or "scalar"


@dataclass(frozen=True)
class _Recorded:
    """A recording that was calibrated on: what it is called, how long, its channels' figures."""

    source: str
    readings: int
    sample_period: float
    channels: tuple[tuple[str, float, float, float, float], ...]

    @classmethod
    def of(cls, recording: Any) -> _Recorded:
        values = recording.values
        figures = (values.min(axis=0), values.mean(axis=0), values.max(axis=0), values.std(axis=0))
        rows = zip(recording.channels, *(map(float, row) for row in figures), strict=True)
        return cls(recording.source, len(recording), recording.sample_period, tuple(rows))
