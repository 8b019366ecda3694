"""What all pictures of a run share: style, colours, legend, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgelstm.errors import MissingDependencyError
from edgelstm.files import atomic_path

LINE, LEVEL, WINDOW = "#4c72b0", "#dd8452", "#f2c14e"
"""Colours of what was measured, of the threshold, and of what is labelled."""
HIT, FALSE = "#2e8b57", "#c44e52"
"""Colours of alerts: right ones, and wrong ones or any."""
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": "#bbbbbb",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.01,
    "date.converter": "concise",
}


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure to draw on, which is written as a PNG file at the end.

    Below it stands a legend with one label for each kind of mark.

    Args:
        path: of the file; it is written whole or not at all.
        width: in inches, at 130 dots each.
        height: likewise.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "Drawing needs matplotlib; run: pip install 'edgelstm[plot]'"
        ) from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        _add_legend(figure)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=130)


def _add_legend(figure: Any) -> None:
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
        )
