"""The report of a training: it holds together, says what was measured, and loads nothing."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from edgelstm.errors import ConfigurationError, OutputExistsError
from edgelstm.recording import Recording
from edgelstm_quantize.training import Trained, train
from edgelstm_quantize.training_data import TrainingData, prepare
from edgelstm_quantize.training_plots import (
    autocorrelation,
    nice_ticks,
    plot_curves,
    plot_histogram,
    plot_residual,
)
from edgelstm_quantize.training_report import (
    newest_residuals,
    render_training_report,
    write_training_report,
)

NASTY = '<b>&"x'
VOID = {"meta"}


class Page(HTMLParser):
    """A page whose every element is closed in its place; what it has, by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def all(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [value or "" for _, attributes in self.found if (value := attributes.get(name))]


def _recording() -> Recording:
    """500 readings: a mode, what follows it, noise and a channel that never changes."""
    rng = np.random.default_rng(0)
    mode = np.arange(500) // 60 % 2
    wave = np.sin(np.arange(500) / 7) + mode + rng.normal(0, 0.1, 500)
    values = np.stack([mode, wave, rng.normal(0, 1, 500), np.full(500, 3.0)], axis=1)
    values[100:104, 1] = np.nan
    return Recording(
        "pump.csv", ("mode", NASTY, "noise", "still"), np.arange(500.0) * 2, values, 2.0,
        {"mode": ("idle", "wash")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return prepare([_recording()])


@pytest.fixture(scope="module", params=["hybrid", "ridge", "autoencoder"])
def trained(request: pytest.FixtureRequest, data: TrainingData) -> tuple[Trained, TrainingData]:
    if request.param == "autoencoder":
        data = prepare([_recording().with_channels([NASTY, "noise"])])
        return train(data, model="autoencoder", window=8, units=3, iterations=20), data
    return train(data, model=request.param, units=3, iterations=20), data


@pytest.fixture(scope="module")
def text(trained: tuple[Trained, TrainingData]) -> str:
    return render_training_report(*trained)


def test_the_page_holds_together(trained: tuple[Trained, TrainingData], text: str) -> None:
    page = Page(text)
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in page.all("href")} <= set(ids)
    assert all(link.startswith("#") for link in page.all("href"))
    assert set(page.all("aria-labelledby")) <= set(ids)
    assert not page.all("src")
    assert not re.search(r"https?:|url\(|@import|<script", text)
    wanted = {"targets", "residuals", "recordings"}
    if trained[0].kind != "ridge":
        wanted.add("curves")
    assert {tag["id"] for name, tag in page.found if name == "section"} == wanted


def test_text_in_the_page_reads_as_text(text: str) -> None:
    read = html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.S))
    assert not re.search(r"\{[{%#]|None|\bnan\b|\binf\b|object at|Undefined", read)
    assert NASTY in read
    assert "<b>" not in text
    assert "&amp;amp;" not in text


def test_paths_are_of_numbers(text: str) -> None:
    paths = Page(text).all("d")
    assert paths
    for path in paths:
        assert re.fullmatch(r"[MLHVZ\d. -]+", path)


def test_the_figures_are_those_of_the_training(
    trained: tuple[Trained, TrainingData], text: str
) -> None:
    done, data = trained
    assert f'<dd class="value">{done.error:.3f}</dd>' in text
    assert f'<dd class="value">{done.ridge_error:.3f}</dd>' in text
    assert f"{done.model.count_params():,}" in text
    row = next(row for row in text.split("<tr>") if f">{html.escape(NASTY)[:5]}" in row)
    k = data.targets.index(NASTY)
    explained = 1 - (done.rms[k] / done.std[k]) ** 2
    assert f"{done.rms[k]:.4g}</td>" in row
    assert f"{100 * explained:.1f}%</td>" in row
    for remark in data.remarks:
        assert html.escape(remark, quote=False)[:40] in html.unescape(text).replace("&", "&amp;")


def test_channels_are_told_with_their_part(data: TrainingData) -> None:
    text = render_training_report(train(data, model="ridge"), data)
    assert "categories: idle, wash" in text
    assert "4 missing values filled" in text
    assert "The residual is 0 throughout" in text


def test_the_same_training_gives_the_same_bytes(
    trained: tuple[Trained, TrainingData], tmp_path: Path
) -> None:
    for name in ("a.html", "b.html"):
        write_training_report(*trained, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    with pytest.raises(OutputExistsError):
        write_training_report(*trained, tmp_path / "a.html")
    with pytest.raises(ConfigurationError, match=r"\.html"):
        write_training_report(*trained, tmp_path / "a.txt")


def test_of_many_targets_the_worst_are_plotted(data: TrainingData) -> None:
    done = train(data, model="ridge")
    names = tuple(f"c{k}" for k in range(20))
    many = replace(
        data, channels=names, targets=names, categories={}, texts={}, remarks=(),
        values=np.tile(data.values[:, 1:2], 20), known=np.ones((len(data), 20), bool),
    )  # fmt: skip
    rms = tuple(1.0 - k / 40 for k in range(20))
    residuals = np.tile(done.record.residuals[:, :1], 20)
    record = replace(done.record, channels=names, targets=names, residuals=residuals)
    copied = replace(done, record=record, std=(1.0,) * 20, rms=rms, ridge_rms=rms)
    text = render_training_report(copied, many)
    assert [f"<h3>{name}</h3>" in text for name in names] == [True] * 12 + [False] * 8
    assert "the 12 of 20 targets" in text


# The charts


def test_the_curves_show_where_each_fold_stopped() -> None:
    curves = (((0, 0.5), (10, 0.4), (20, 0.45)), ((0, 0.6), (10, 0.7), (20, 9.0)))
    chart = plot_curves(curves, (10, 0), 0.55)
    dots = [mark for mark in chart.marks if mark.radius]
    assert [dot.style for dot in dots] == ["dot fold1", "dot fold2"]
    assert dots[0].x == pytest.approx((chart.left + chart.right) / 2)
    assert dots[1].x == chart.left
    heights = [
        float(y) for mark in chart.marks for y in re.findall(r"[ML][\d.]+ ([\d.]+)", mark.path)
    ]
    assert min(heights) >= chart.top  # the fit that went astray is cut off at the top
    assert max(heights) <= chart.bottom
    assert heights.count(chart.top) == 1


def test_a_fit_of_no_iterations_can_be_drawn() -> None:
    assert plot_curves((((0, 0.5),),) * 3, (0, 0, 0), 0.5).x_ticks


@pytest.mark.parametrize("count", [10, 600, 50_000])
def test_a_residual_is_drawn_from_its_lowest_to_its_highest(count: int) -> None:
    residual = np.random.default_rng(0).normal(0, 2, count)
    residual[count // 3] = 20.0
    residual[: count // 10] = np.nan
    chart = plot_residual(residual, 2.0, [count // 2], "flow")
    (path,) = (mark.path for mark in chart.marks if mark.style == "residual")
    assert len(path) < 15_000
    heights = [float(y) for y in re.findall(r"[MLV](?:[\d.]+ )?([\d.]+)", path)]
    assert chart.y_ticks[-1].label == "10"
    assert min(heights) == pytest.approx(chart.top, abs=0.6)
    first = float(re.match(r"M([\d.]+)", path)[1])  # type: ignore[index]
    assert first == pytest.approx(chart.left + 0.1 * (chart.right - chart.left), abs=2)


def test_a_residual_that_is_missing_leaves_a_gap() -> None:
    chart = plot_residual(np.array([1.0, 2, np.nan, 1, 2, np.nan]), 1.0, [], "flow")
    (path,) = (mark.path for mark in chart.marks if mark.style == "residual")
    assert re.sub(r"[\d. ]", "", path) == "MLML"


def test_the_histogram_counts_everything() -> None:
    residual = np.random.default_rng(0).standard_t(2, 5000)
    chart = plot_histogram(residual, 1.0, "flow")
    (bars,) = (mark.path for mark in chart.marks if mark.style == "bars")
    top, bottom = chart.y_ticks[-1], chart.y_ticks[0]
    per_pixel = float(top.label) / (bottom.at - top.at)
    tops = [float(y) for y in re.findall(r"V([\d.]+)H", bars)]
    assert 0.25 * per_pixel * sum(chart.bottom - y for y in tops) == pytest.approx(1, abs=0.01)


def test_autocorrelation_is_that_of_the_series() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros(20_000)
    for i in range(1, len(x)):
        x[i] = 0.8 * x[i - 1] + rng.normal()
    found = autocorrelation(x, 5)
    np.testing.assert_allclose(found, [0.8**k for k in range(1, 6)], atol=0.05)
    x[rng.integers(0, len(x), 2000)] = np.nan
    np.testing.assert_allclose(autocorrelation(x, 5), found, atol=0.05)
    assert autocorrelation(np.ones(3), 5).tolist() == [1, 1, 0, 0, 0]


def test_the_newest_reading_of_a_window_counts() -> None:
    windows = np.arange(24.0).reshape(2, 12)
    assert newest_residuals(windows, 3).tolist() == [[9, 10, 11], [21, 22, 23]]
    assert newest_residuals(windows, 12).tolist() == windows.tolist()


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.35, 0.42), (-5, 5), (0, 1e-9), (3, 3), (0, 0)]
)
def test_ticks_are_round_and_hold_the_range(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low
    assert ticks[-1] >= high
    steps = np.diff(ticks)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps[0])
    assert round(steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9), 6) in (1, 2, 5)
