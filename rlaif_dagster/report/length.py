"""How long the answers are. Length is the judge's oldest weakness and reward hacking's first sign, so it is shown whole:
a mean hides an arm that answers in one word half of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rlaif_dagster.report.arms import ARMS, in_order, label
from rlaif_dagster.report.drawing import ROW, WIDTH, Margins, Plot, arm_rows, color
from rlaif_dagster.report.estimate import joined, percent
from rlaif_dagster.report.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CUT_OFF = 0.1  # share of an arm's answers at the longest length from which a reader is told
_NAMES = {"greedy": "Greedy answers", "sampled": "Sampled answers"}


@dataclass(frozen=True)
class Spread:
    """Tokens an answer of one arm: the 10th, 25th, 50th, 75th and 90th percentile, the mean, and how many answers."""

    arm: str
    quantiles: tuple[float, float, float, float, float]
    mean: float
    n: int

    @property
    def median(self) -> float:
        return self.quantiles[2]


def spreads(responses: pd.DataFrame, decoding: str) -> list[Spread]:
    """One an arm, over the answers of all its seeds."""
    rows = responses[(responses["decoding"] == decoding) & responses["tokens"].notna()]
    out = []
    for arm in ARMS:
        tokens = rows.loc[rows["arm"] == arm, "tokens"].astype(float).to_numpy()
        if len(tokens):
            a, b, c, d, e = (float(q) for q in np.quantile(tokens, [0.1, 0.25, 0.5, 0.75, 0.9]))
            out.append(Spread(arm, (a, b, c, d, e), float(tokens.mean()), len(tokens)))
    return out


def cut_off(responses: pd.DataFrame) -> str:
    """A sentence where many greedy answers are as long as the longest one, which is what a token limit does; else empty."""
    greedy = responses[(responses["decoding"] == "greedy") & responses["tokens"].notna()]
    if greedy.empty:
        return ""
    limit = int(greedy["tokens"].max())
    shares = {
        arm: float((greedy.loc[greedy["arm"] == arm, "tokens"] == limit).mean()) for arm in in_order(set(greedy["arm"]))
    }
    if max(shares.values()) < CUT_OFF:
        return ""
    parts = joined([f"{label(arm)} {percent(share)}" for arm, share in shares.items()])
    return f"Many greedy answers are exactly {limit} tokens long, the longest there is, and were probably cut off there: {parts}."


def length_plots(responses: pd.DataFrame) -> list[Plot]:
    """A panel a decoding, on one scale."""
    found = {decoding: spreads(responses, decoding) for decoding in _NAMES}
    longest = max((spread.quantiles[-1] for several in found.values() for spread in several), default=1.0)
    return [_plot(decoding, several, longest) for decoding, several in found.items() if several]


def _plot(decoding: str, several: Sequence[Spread], longest: float) -> Plot:
    """A thin line from the 10th to the 90th percentile, a thick one over the middle half, a tick at the median."""

    def draw(axes: Axes) -> None:
        for row, spread in enumerate(several):
            low, lower, median, upper, high = spread.quantiles
            axes.plot([low, high], [row, row], color=color(spread.arm), linewidth=1.6, solid_capstyle="butt", zorder=2)
            axes.plot([lower, upper], [row, row], color=color(spread.arm), linewidth=9, solid_capstyle="butt", zorder=3)
            axes.plot([median, median], [row - 0.3, row + 0.3], color=INK, linewidth=2, zorder=4)
            axes.annotate(
                f"{median:.0f}", (1, row), (8, 0), textcoords="offset points", xycoords=("axes fraction", "data"),
                va="center", ha="left", fontweight="bold", annotation_clip=False,
            )  # fmt: skip
        axes.set_xlim(0, max(1.0, longest) * 1.04)
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.set_xlabel("tokens", fontsize=9, labelpad=2)
        axes.grid(axis="x", zorder=0)
        arm_rows(axes, [spread.arm for spread in several])

    parts = [f"{label(s.arm)} {s.median:.0f} ({s.quantiles[1]:.0f} to {s.quantiles[3]:.0f})" for s in several]
    words = f"{_NAMES[decoding]}, median tokens and middle half: {', '.join(parts)}"
    hint = f"{min(s.n for s in several)} an arm; bold: median"
    size = (WIDTH, ROW * len(several) + 44, Margins(40, 36, 36))
    return Plot(f"length-{decoding}", _NAMES[decoding], hint, words, *size, draw)
