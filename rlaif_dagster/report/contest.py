"""The win-rate matrix as a picture for a paper; the page shows the same as a table, whose text can be read and copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlaif_dagster.report.arms import label
from rlaif_dagster.report.drawing import Margins, Plot
from rlaif_dagster.report.evidence import Evidence
from rlaif_dagster.report.svg import INK
from rlaif_dagster.report.tables import win_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIN, LOSE = "#12807a", "#94612c"
_CELL_WIDTH, _CELL_HEIGHT = 86, 46


def contest_plot(evidence: Evidence) -> Plot | None:
    """Win rate of the row's arm against the column's with its interval; None where nothing was compared."""
    arms, rows = win_matrix(evidence)
    if not arms:
        return None

    def draw(axes: Axes) -> None:
        for y, cells in enumerate(rows):
            for x, cell in enumerate(cells):
                if cell is None:
                    continue
                tint, strength = (WIN if cell.rate >= 0.5 else LOSE), 0.8 * abs(cell.rate - 0.5)
                axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=tint, alpha=strength, linewidth=0)
                weight = "bold" if cell.decided else "normal"
                axes.text(x + 0.5, y + 0.42, cell.text, ha="center", va="center", fontweight=weight, fontsize=12)
                axes.text(x + 0.5, y + 0.76, cell.interval, ha="center", va="center", fontsize=8)
        axes.set_xlim(0, len(arms))
        axes.set_ylim(len(arms), 0)
        places = [place + 0.5 for place in range(len(arms))]
        axes.set_xticks(places, [f"against {label(arm)}" for arm in arms], fontsize=9)
        axes.set_yticks(places, [label(arm) for arm in arms])
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        for edge in range(len(arms) + 1):
            axes.axhline(edge, color=INK, linewidth=0.3, clip_on=False)
            axes.axvline(edge, color=INK, linewidth=0.3, clip_on=False)
        for spine in axes.spines.values():
            spine.set_visible(False)

    words = "; ".join(
        f"{label(arm)} against {label(other)} {cell.text} ({cell.interval})"
        for arm, cells in zip(arms, rows, strict=True)
        for other, cell in zip(arms, cells, strict=True)
        if cell
    )
    size = (56 + _CELL_WIDTH * len(arms), 34 + _CELL_HEIGHT * len(arms), Margins(48, 8, 8, 26))
    hint = "wins of the row's arm over the column's, a tie counting half; bold: excludes 50%"
    return Plot("head-to-head", "Head to head", hint, f"Win rates: {words}", *size, draw)
