"""The report of a training: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import edgelstm
from edgelstm.files import atomic_path, check_output
from edgelstm_quantize.report import page_environment
from edgelstm_quantize.training_data import TrainingData
from edgelstm_quantize.training_plots import (
    Chart,
    autocorrelation,
    plot_autocorrelation,
    plot_curves,
    plot_histogram,
    plot_residual,
)
from edgelstm_quantize.training_remarks import worse_than_linear

if TYPE_CHECKING:
    from edgelstm_quantize.training import Trained

_MOST_PLOTTED = 12  # targets; more pages than these nobody reads
_FOLDS = 3
_FAR = 3.0  # multiples of the rms
NORMAL_FAR = 0.0027  # of a normal distribution lies beyond


def write_training_report(
    trained: Trained, data: TrainingData, path: Path, *, force: bool = False
) -> None:
    """Writes a page about a training. The same training gives the same bytes.

    Args:
        trained: what came of `train`.
        data: what it was trained on.
        path: of the `.html` file.
        force: whether a file that exists may be replaced.

    Raises:
        OutputExistsError: it exists and `force` is false.
        ConfigurationError: it is no `.html` file, or its folder does not exist or cannot be
            written.
        OSError: the disk fails or is full.
    """
    check_output(path, force=force, suffix=".html")
    page = render_training_report(trained, data)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_training_report(trained: Trained, data: TrainingData) -> str:
    """The page as text."""
    targets = list(_targets(trained, data))
    plotted = sorted(targets, key=lambda target: target.explained)[:_MOST_PLOTTED]
    worse = worse_than_linear(trained.kind, trained.error, trained.ridge_error)
    curves = None
    if trained.curves and all(trained.curves):
        curves = plot_curves(trained.curves, trained.best, trained.ridge_error)
    return (
        page_environment()
        .get_template("training_report.html")
        .render(
            version=edgelstm.__version__,
            trained=trained,
            record=trained.record,
            parameters=trained.model.count_params(),
            data=data,
            channels=list(_channels(data)),
            filled=int((~data.known).sum()),
            remarks=tuple(dict.fromkeys((*data.remarks, *trained.remarks, *filter(None, [worse])))),
            targets=targets,
            plotted=[target for target in targets if target in plotted],
            curves=curves,
            normal_far=NORMAL_FAR,
        )
    )


@dataclass(frozen=True, eq=False)
class _Target:
    """A target: its figures in physical units, and its plots where its residual is not zero.

    Attributes:
        name: of the channel.
        std: its standard deviation.
        rms: of the out-of-fold residual.
        ridge_rms: of that of the linear model.
        explained: the share of the variance that is forecast.
        far: the share of the residuals beyond three times their rms.
        repeats: autocorrelation of the residual at one reading.
        charts: over time, histogram, autocorrelation; none for a residual of 0.
    """

    name: str
    std: float
    rms: float
    ridge_rms: float
    explained: float
    far: float
    repeats: float
    charts: tuple[Chart, ...]


def _targets(trained: Trained, data: TrainingData) -> Iterator[_Target]:
    residuals = newest_residuals(trained.record.residuals, len(data.targets))
    edges = np.linspace(0, len(residuals), _FOLDS + 1).astype(int)[1:-1].tolist()
    for k, name in enumerate(data.targets):
        residual = residuals[:, k]
        known = residual[np.isfinite(residual)]
        scale = float(np.sqrt(np.mean(known**2))) if len(known) else 0.0
        std, rms = trained.std[k], trained.rms[k]
        charts: tuple[Chart, ...] = ()
        correlation = np.zeros(1)
        if scale > 0:
            correlation = autocorrelation(residual)
            charts = (
                plot_residual(residual, scale, edges, name),
                plot_histogram(known, scale, name),
                plot_autocorrelation(correlation, len(known), name),
            )
        yield _Target(
            name,
            std,
            rms,
            trained.ridge_rms[k],
            1 - (rms / std) ** 2 if std else 0.0,
            float(np.mean(np.abs(known) > _FAR * scale)) if scale else 0.0,
            float(correlation[0]),
            charts,
        )


def newest_residuals(residuals: NDArray[np.float64], targets: int) -> NDArray[np.float64]:
    """The residual of each reading, (readings, targets).

    Args:
        residuals: that, or (readings, window x targets) of reconstructed windows, of which the
            newest reading counts.
        targets: how many there are.
    """
    return residuals[:, -targets:]


@dataclass(frozen=True)
class _Channel:
    """A channel of the recordings: what it is for, and its figures."""

    name: str
    role: str
    lowest: float
    mean: float
    highest: float
    std: float
    filled: float


def _channels(data: TrainingData) -> Iterator[_Channel]:
    for k, name in enumerate(data.channels):
        column = data.values[:, k]
        role = "target" if name in data.targets else "input"
        if name in data.categories:
            texts = data.texts.get(name)
            codes = data.categories[name]
            shown = [texts[int(code)] if texts else f"{code:g}" for code in codes]
            role = f"categories: {', '.join(shown)}"
        yield _Channel(
            name,
            role,
            float(column.min()),
            float(column.mean()),
            float(column.max()),
            float(column.std()),
            float(np.mean(~data.known[:, k])),
        )
