"""A plot described once and drawn twice: alone inside the page, and with its neighbours on a sheet for a paper.

A `Plot` knows its size, its margins and how to draw itself on a pair of axes; matplotlib's object interface does the rest
(no pyplot, no global state beside the style). Sizes are in units of 1/72 inch, which the page shows as about one CSS pixel.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlaif_dagster.report.arms import LIGHT, label
from rlaif_dagster.report.svg import INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlaif_dagster.report.estimate import Estimate

WIDTH = 330
TOP = 7
ROW = 25
WHISKER = {"color": INK, "elinewidth": 1.2, "capsize": 3, "capthick": 1.2}

_PAPER = {  # a file of its own has no page to take its colours and its font from
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: text stays text, as journals ask
    "text.color": "#16181c", "axes.labelcolor": "#16181c", "xtick.labelcolor": "#16181c", "ytick.labelcolor": "#16181c",
    "axes.edgecolor": "#9aa0a8", "grid.color": "#dfe2e6",
}  # fmt: skip
_UNDATED: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None}, "png": {"Software": None},
}  # fmt: skip
_HEAD = 30  # above each panel of a sheet, for its title and hint
_GAP = 16


@dataclass(frozen=True)
class Margins:
    """Room around the axes for names and ticks."""

    left: float
    right: float
    bottom: float
    top: float = TOP


@dataclass(frozen=True)
class Plot:
    """One panel. `key` is unique on a page, `words` is what a screen reader says, `draw` fills a pair of axes."""

    key: str
    title: str
    hint: str
    words: str
    width: float
    height: float
    margins: Margins
    draw: Callable[[Axes], None]


def alone(plot: Plot) -> Figure:
    """The panel by itself; its title is the page's."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(plot.width / 72, plot.height / 72))
        plot.draw(figure.add_axes(_box(plot, 0, 0, plot.width, plot.height)))
    return figure


def sheet(plots: Sequence[Plot], columns: int, form: str) -> bytes:
    """The panels in rows of `columns`, titled, as a file by itself: `form` is svg, pdf or png. The bytes are deterministic."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, **_PAPER, "svg.hashsalt": plots[0].key}):
        figure = _sheet(Figure, plots, columns)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, facecolor="white", metadata=_UNDATED[form])
    return buffer.getvalue()


def _sheet(figures: Callable[..., Figure], plots: Sequence[Plot], columns: int) -> Figure:
    rows = [plots[i : i + columns] for i in range(0, len(plots), columns)]
    heights = [max(plot.height for plot in row) + _HEAD for row in rows]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(len(rows[0]))]
    width, height = sum(widths) + _GAP * len(widths), sum(heights) + _GAP * len(rows)
    figure = figures(figsize=(width / 72, height / 72))
    top = height
    for row, tall in zip(rows, heights, strict=True):
        left = _GAP / 2
        for plot, wide in zip(row, widths, strict=False):
            figure.text(left / width, (top - 12) / height, plot.title, fontweight="bold", fontsize=11, va="baseline")
            figure.text(left / width, (top - 24) / height, plot.hint, fontsize=8, color="#5d6570", va="baseline")
            box = _box(plot, left, top - _HEAD - plot.height, width, height)
            plot.draw(figure.add_axes(box))
            left += wide + _GAP
        top -= tall + _GAP
    return figure


def _box(plot: Plot, left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
    """The axes of a plot whose lower left corner is at (left, bottom) of a figure of this size, in its fractions."""
    m = plot.margins
    return (
        (left + m.left) / width,
        (bottom + m.bottom) / height,
        (plot.width - m.left - m.right) / width,
        (plot.height - m.bottom - m.top) / height,
    )


def color(arm: str) -> str:
    """The arm's colour on a light page, which `svg.inline` turns into the page's variable."""
    return LIGHT.get(arm, INK)


def arm_rows(axes: Axes, arms: Sequence[str]) -> None:
    """One row an arm from the top, named on the left."""
    axes.set_yticks(range(len(arms)), [label(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelsize=11)
    axes.spines["left"].set_visible(False)


def whisker(estimate: Estimate) -> list[list[float]] | None:
    """Lengths of an interval's two sides, as matplotlib takes them; None where it is unknown."""
    if not estimate.has_interval:
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
