"""The report: one page that holds together, says what the manifest says, and loads nothing."""

from __future__ import annotations

import dataclasses
import html
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgelstm.errors import ConfigurationError, OutputExistsError
from edgelstm.recording import Recording
from edgelstm_quantize.convert import Conversion, convert
from edgelstm_quantize.coral import Compilation
from edgelstm_quantize.drawing import Node, draw, type_name
from edgelstm_quantize.drift_plot import plot_drift
from edgelstm_quantize.layer_graph import LayerGraph, open_up
from edgelstm_quantize.report import number, percent, render_report, write_report
from edgelstm_quantize.summary import Trial

layers = keras.layers
DASH = "\N{EN DASH}"
NASTY = '<b>&"x'
SECTIONS = {"size", "fidelity", "drift", "model", "tensors", "operations", "calibration", "about"}
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """A page, read strictly: every element is closed, and closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.drawn: list[str] = []
        self._section = ""
        self._cell = False
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute is twice in {tag}"
        self.elements.append((tag, attributes))
        if tag == "section":
            self._section = attributes["id"] or ""
            self.tables[self._section] = []
        if tag == "tr":
            self.tables[self._section].append([])
        if tag in ("th", "td"):
            self.tables[self._section][-1].append("")
            self._cell = True
        if tag == "br" and self._cell:
            self.handle_data("\n")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        if tag in ("th", "td"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[self._section][-1][-1] += data
        if self.open and self.open[-1] == "text":
            self.drawn.append(data)

    def row(self, section: str, name: str) -> list[str]:
        return next(row for row in self.tables[section] if row[0].split("\n")[0] == name)


def _stream(names: tuple[str, str] = ("first", "second")) -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((None, 3))
    h = layers.LSTM(6, return_sequences=True, name=names[0])(x)
    return keras.Model(x, layers.Dense(3, name=names[1])(h), name="pump")


def _two_ends() -> keras.Model:
    keras.utils.set_random_seed(3)
    fast, slow = keras.Input((None, 2), name="fast"), keras.Input((None, 1), name="slow")
    branches = (
        layers.GRU(4, return_sequences=True)(fast),
        layers.LSTM(4, return_sequences=True)(slow),
    )
    h = layers.Concatenate(name="both")(branches)
    h = layers.Add(name="sum")([h, layers.Dense(8, activation="tanh", name="detour")(h)])
    return keras.Model(
        [fast, slow], [layers.Dense(2, name="level")(h), layers.Dense(1, name="flow")(h)]
    )


def _window() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((6, 3))
    h = layers.Bidirectional(layers.LSTM(3), name="both_ways")(x)
    return keras.Model(x, layers.Dense(2, name="state")(h), name="windowed")


@pytest.fixture(scope="module")
def normalised(waves: Recording) -> Recording:
    values = (waves.values - waves.values.mean(axis=0)) / waves.values.std(axis=0)
    return Recording(f"{NASTY}.csv", (NASTY, "b", "c"), waves.timestamps[:600], values[:600], 10.0)


@pytest.fixture(scope="module")
def int8(normalised: Recording) -> Conversion:
    return convert(_stream(), normalised, recipe="int8")


@pytest.fixture(scope="module")
def two_ends(normalised: Recording) -> Conversion:
    return convert(_two_ends(), normalised, recipe="int8-float")


@pytest.fixture(scope="module")
def windowed(normalised: Recording) -> Conversion:
    return convert(_window(), normalised, recipe="int8-float")


@pytest.fixture(scope="module", params=["int8", "two_ends", "windowed"])
def conversion(request: pytest.FixtureRequest) -> Conversion:
    done: Conversion = request.getfixturevalue(request.param)
    return done


@pytest.fixture(scope="module")
def text(conversion: Conversion) -> str:
    return render_report(conversion)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_holds_together_and_has_its_sections(
    conversion: Conversion, text: str, page: Page
) -> None:
    sections = set(page.tables)
    assert sections - {"memory", "threshold"} == SECTIONS
    assert ("threshold" in sections) == (conversion.calibrated is not None)
    assert ("memory" in sections) == bool(conversion.summary.memory)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {
        attributes[key] for _, attributes in page.elements for key in ("href",) if key in attributes
    }
    assert named == {f"#{section}" for section in sections}
    assert len(text) < 300_000


def test_the_page_loads_nothing_and_runs_nothing(text: str, page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any(
        value and "//" in value for _, attributes in page.elements for value in attributes.values()
    )
    assert set(re.findall(r"url\([^)]*\)", text)) == {"url(#head)"}
    assert "@import" not in text


def test_headings_tables_and_figures_are_accessible(conversion: Conversion, page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert all(a.get("scope") for tag, a in page.elements if tag == "th")
    figures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in figures)
    ids = {a["id"] for tag, a in page.elements if tag in ("title", "desc") and "id" in a}
    for figure in figures:
        assert set((figure.get("aria-labelledby") or "").split()) <= ids
    plots = 2 + (conversion.calibrated is not None)
    assert sum("aria-labelledby" in figure for figure in figures) == plots


def test_the_threshold_has_its_residuals_and_what_it_achieved(
    conversion: Conversion, text: str, page: Page
) -> None:
    summary = conversion.summary.detection
    if summary is None:
        assert "threshold" not in page.tables
        return
    assert conversion.calibrated is not None
    _, *rows = page.tables["threshold"]
    assert [row[0] for row in rows] == [channel.name for channel in summary.channels]
    for row, channel in zip(rows, summary.channels, strict=True):
        assert row[1:3] == [number(channel.rms), number(channel.float_rms)]
        assert row[3] == percent(channel.rms / channel.float_rms - 1)
        assert row[4] == number(channel.scale)
    times = "1 time" if summary.alerts == 1 else f"{summary.alerts:,} times"
    assert f"<strong>{times} in {number(summary.days or 0)} days</strong>" in text


def test_the_figures_are_those_of_the_manifest(conversion: Conversion, page: Page) -> None:
    manifest = conversion.artifact.manifest
    fidelity = manifest.fidelity
    assert page.row("fidelity", "Relative error")[1] == f"{fidelity.relative_error:.2%}"
    assert page.row("fidelity", "Largest error")[1] == f"{fidelity.max_error:.2%}"
    assert page.row("fidelity", "Drift")[1] == f"{fidelity.drift:.2f}"
    assert page.row("fidelity", "Correlation")[1] == f"{fidelity.correlation:.5f}"
    assert page.row("size", "float32")[1] == f"{conversion.float_bytes:,}"
    ours = page.row("size", f"{manifest.recipe} (this model)")
    assert ours[1] == f"{manifest.flatbuffer_bytes:,}"
    operations = {row[0]: row[2] for row in page.tables["operations"][1:-1]}
    assert operations == {op.name: str(op.count) for op in manifest.operations}
    assert {row[0] for row in page.tables.get("memory", [])[1:]} == {
        memory.layer for memory in conversion.memory
    }


def test_the_drawing_shows_every_layer(two_ends: Conversion, windowed: Conversion) -> None:
    page = Page(render_report(two_ends))
    assert {"fast", "slow", "both", "detour", "sum", "level", "flow"} <= set(page.drawn)
    assert page.row("model", "both")[2] == "time \N{MULTIPLICATION SIGN} 8"
    assert page.row("model", "detour")[1] == "Dense, tanh"
    assert set(page.row("model", "sum")[4].split(", ")) == {"both", "detour"}
    assert page.row("model", "detour")[3] == str(8 * 8 + 8)
    page = Page(render_report(windowed))
    assert page.row("model", "x")[2] == "6 \N{MULTIPLICATION SIGN} 3"
    assert page.row("model", "both_ways")[1] == "Bidirectional(LSTM)"


def test_ranges_are_shown_beside_what_the_tensors_can_hold(int8: Conversion) -> None:
    text = render_report(int8)
    rows = {row[0].partition("\n")[0]: row for row in Page(text).tables["tensors"]}
    state = int8.artifact.manifest.states[0].input
    row = next(row for name, row in rows.items() if "state_0 (in)" in row[0])
    assert row[1:3] == ["int8", "1 \N{MULTIPLICATION SIGN} 6"]
    assert float(row[3]) == pytest.approx(state.scale, rel=1e-3)
    assert int(row[4]) == state.zero_point
    held = [(limit - state.zero_point) * state.scale for limit in (-128, 127)]
    assert [float(v) for v in row[5].split(" to ")] == pytest.approx(held, rel=1e-3)
    seen = next(seen for name, seen in int8.calibration.ranges.items() if name in row[0])
    assert [float(v) for v in row[6].split(" to ")] == pytest.approx(seen, rel=1e-3)
    # Every tensor that calibration saw is found again in the quantised model.
    assert {name for name, row in rows.items() if len(row) == 9 and row[6]} >= set(
        int8.calibration.ranges
    )


def test_clipping_is_the_share_of_the_seen_range_that_does_not_fit(int8: Conversion) -> None:
    def report(seen: tuple[float, float]) -> str:
        ranges = int8.calibration.ranges | {name: seen}
        calibration = dataclasses.replace(int8.calibration, ranges=ranges)
        return render_report(dataclasses.replace(int8, calibration=calibration))

    def count(text: str) -> int:
        found = re.search(r"<strong>(\w+) tensors? clips? more than 1%", text)
        assert found
        return 0 if found[1] == "No" else int(found[1])

    name = next(name for name in int8.calibration.ranges if "Sigmoid" in name)
    fits, wider = report((0.1, 0.9)), report((-0.5, 1.0))  # a sigmoid holds 0 to 255 / 256
    assert Page(fits).row("tensors", name)[7:] == ["0.00%", "80%"]
    assert Page(wider).row("tensors", name)[7:] == [f"{(0.5 + 1 / 256) / 1.5:.2%}", "100%"]
    assert count(wider) == count(fits) + 1
    assert wider.count('class="over"') == fits.count('class="over"') + 2


def test_float_recipes_show_ranges_and_the_scales_of_weights(two_ends: Conversion) -> None:
    page = Page(render_report(two_ends))
    assert "Clipped" not in {cell for row in page.tables["tensors"] for cell in row}
    call = next(c for c in two_ends.graph.calls if type_name(c.operation) == "GRU")
    kernel = call.operation.cell.recurrent_kernel.numpy()
    scope = two_ends.graph.labels[id(call)]
    rows = [row for row in page.tables["tensors"] if row[0].startswith(scope)]
    seen = [row for row in rows if len(row) == 4]
    assert seen
    assert all(row[3] for row in seen)  # weights that the graph dequantises are not among them
    weights = [
        row for row in rows if len(row) == 7 and row[1] == "int8" and row[3] == str(kernel.size)
    ]
    assert weights
    limits = [list(map(float, row[6].split(" to "))) for row in weights]
    assert any(pair == pytest.approx([kernel.min(), kernel.max()], abs=0.01) for pair in limits)
    assert {row[4] for row in weights} == {str(kernel.shape[1])}  # a scale for each row


def test_what_the_user_named_is_escaped(int8: Conversion) -> None:
    # TensorFlow refuses such a layer name, so the layer gets it afterwards.
    layer = int8.graph.calls[0].operation
    own, layer.name = layer.name, NASTY
    try:
        page = Page(render_report(dataclasses.replace(int8, warnings=(NASTY,))))
        text = render_report(int8)
    finally:
        layer.name = own
    assert "<b>" not in text
    assert "&amp;amp;" not in text
    assert NASTY in page.drawn
    assert page.row("model", NASTY)[1] == "LSTM"
    assert NASTY in {row[1] for row in page.tables["calibration"] if len(row) > 1}
    assert page.tables["calibration"][1][0].startswith(f"{NASTY}.csv")


def test_the_same_conversion_gives_the_same_bytes(int8: Conversion, tmp_path: Path) -> None:
    write_report(int8, tmp_path / "a.html")
    write_report(int8, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert int8.artifact.manifest.created in (tmp_path / "a.html").read_text("utf-8")


def test_a_file_that_exists_is_kept(int8: Conversion, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"):
        write_report(int8, path)
    assert path.read_text() == "mine"
    write_report(int8, path, force=True)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(ConfigurationError, match=r"\.html"):
        write_report(int8, tmp_path / "report.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_recipes_that_were_tried_and_the_edge_tpu_are_told(int8: Conversion) -> None:
    fidelity = int8.artifact.manifest.fidelity
    trials = (
        Trial("int16x8", None, None, "it was refused"),
        Trial("int8-float", 12345, fidelity, "a smaller one is close enough"),
        *int8.trials,
    )
    compilation = Compilation(b"", 20, 27, ("TANH: more than one subgraph",), "16.0", "")
    done = dataclasses.replace(int8, trials=trials, compilation=compilation, compiled=int8.artifact)
    text = render_report(done)
    page = Page(text)
    assert page.row("size", "int16x8") == ["int16x8", *[DASH] * 3, "it was refused"]
    assert page.row("size", "int8-float")[1] == "12,345"
    assert page.row("size", "int8")[-1] == "taken"
    assert page.row("size", "compiled for the Edge TPU")
    assert "20 of 27 operations (74%) run on the Edge TPU" in text
    assert "TANH: more than one subgraph" in text


def test_a_conversion_that_lost_too_much_says_so(int8: Conversion) -> None:
    fidelity = dataclasses.replace(
        int8.artifact.manifest.fidelity, relative_error=0.2, correlation=None
    )
    manifest = dataclasses.replace(int8.artifact.manifest, fidelity=fidelity, runtimes={})
    artifact = dataclasses.replace(int8.artifact, manifest=manifest)
    text = render_report(dataclasses.replace(int8, artifact=artifact))
    assert "above what this recipe should reach" in text
    assert Page(text).row("fidelity", "Correlation")[1] == "none"
    assert "no runtime that was tried" in text


def _deep(blocks: int) -> LayerGraph:
    x = keras.Input((None, 3))
    h, sides = layers.Dense(4)(x), []
    for _ in range(blocks):
        h = layers.Add()([h, layers.Dropout(0.1)(layers.GRU(4, return_sequences=True)(h))])
        sides.append(layers.Dense(2)(h))
    return open_up(keras.Model(x, layers.Concatenate()([*sides, h])), None)


def test_a_drawing_of_many_layers_is_in_order_and_without_overlap() -> None:
    graph = _deep(15)
    drawing = draw(graph)
    assert len(drawing.boxes) == len(graph.calls) + 2 > 60
    rows: dict[float, list[float]] = {}
    for box in drawing.boxes:
        rows.setdefault(box.y, []).append(box.x)
        assert 0 <= box.x <= drawing.width - 256
        assert 0 <= box.y <= drawing.height - 46
    assert all(b - a >= 256 for row in rows.values() for a, b in itertools.pairwise(sorted(row)))
    # What a layer reads stands above it.
    top = {box.node.name: box.y for box in drawing.boxes}
    assert all(top[name] < box.y for box in drawing.boxes for name in box.node.reads)
    # The trunk stands nearly straight.
    trunk = [box.x for box in drawing.boxes if box.node.type == "GRU"]
    assert max(trunk) - min(trunk) < 64
    assert draw(graph) == drawing


def test_a_layer_that_is_used_twice_counts_its_parameters_once() -> None:
    a, b = keras.Input((None, 2), name="a"), keras.Input((None, 2), name="b")
    shared = layers.Dense(4, name="shared")
    model = keras.Model([a, b], layers.Add()([shared(a), shared(b)]))
    nodes: list[Node] = [box.node for box in draw(open_up(model, None)).boxes]
    assert sorted(n.parameters or 0 for n in nodes if n.name == "shared") == [0, 12]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.GRU(2), "GRU"),
        (layers.RNN(layers.LSTMCell(2)), "LSTM"),
        (layers.RNN([layers.LSTMCell(2), layers.GRUCell(2)]), "RNN(LSTMCell, GRUCell)"),
        (
            layers.TimeDistributed(layers.Dense(2, activation="relu")),
            "TimeDistributed(Dense, relu)",
        ),
        (layers.Bidirectional(layers.SimpleRNN(2)), "Bidirectional(SimpleRNN)"),
    ],
)
def test_layers_are_called_what_users_call_them(layer: Any, name: str) -> None:
    assert type_name(layer) == name


@pytest.mark.parametrize("count", [1, 9, 600, 100_001])
def test_the_plot_keeps_the_largest_error_and_the_means_of_both_ends(count: int) -> None:
    errors = np.full(count, 0.01)
    errors[count // 2 :] = 0.02
    errors[-1] = 0.04
    plot = plot_drift(errors)
    tenth = max(1, count // 10)
    assert plot.tenths[0].mean == pytest.approx(errors[:tenth].mean())
    assert plot.tenths[1].mean == pytest.approx(errors[-tenth:].mean())
    assert plot.y_ticks[0].label == "0%"
    assert plot.y_ticks[-1].label == "4%"
    assert plot.y_ticks[-1].at == plot.top
    heights = [float(y) for y in re.findall(r"V([\d.]+)", plot.band)]
    assert min(heights) == pytest.approx(plot.top)
    assert len(plot.band) < 20_000
    assert plot.steps_per_bucket == max(1, -(-count // 600))


def test_a_perfect_model_can_be_plotted() -> None:
    plot = plot_drift(np.zeros(50))
    assert {tenth.y for tenth in plot.tenths} == {plot.bottom}


def test_text_in_the_page_reads_as_text(text: str) -> None:
    """No template code or Python objects in what people see."""
    read = html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.S))
    assert not re.search(r"\{[{%#]|None|\bnan\b|object at|Undefined", read)
