"""Plots of levels and differences: small multiples, one panel a suite, which wrap on a narrow screen instead of shrinking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlaif_dagster.report.arms import in_order, label
from rlaif_dagster.report.drawing import ROW, WHISKER, WIDTH, Margins, Plot, arm_rows, color, whisker
from rlaif_dagster.report.estimate import percent, signed
from rlaif_dagster.report.evidence import Measure
from rlaif_dagster.report.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEFT = 40  # for the arms' names
_AXIS = 30


def levels(measure: Measure) -> Plot:
    """Bars from 0 to 100% with 95% whiskers, one an arm; a dotted line where guessing would be."""
    arms = in_order(set(measure.estimates))

    def draw(axes: Axes) -> None:
        for row, arm in enumerate(arms):
            estimate = measure.estimates[arm]
            axes.barh(row, estimate.value, height=0.62, color=color(arm), linewidth=0, zorder=2)
            axes.errorbar(estimate.value, row, xerr=whisker(estimate), fmt="none", zorder=3, **WHISKER)
            end = max(estimate.value, estimate.high) if estimate.has_interval else estimate.value
            axes.text(end + 0.025, row, estimate.share, va="center", ha="left", fontweight="bold", zorder=4)
        if measure.chance is not None:
            axes.axvline(measure.chance, color=INK, linewidth=1, linestyle=(0, (1, 2)), zorder=2.5)
        axes.set_xlim(0, 1.14)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        axes.set_xticks(ticks, [percent(tick) for tick in ticks])
        axes.spines["bottom"].set_bounds(0, 1)
        axes.grid(axis="x", zorder=0)
        arm_rows(axes, arms)

    title = measure.name[:1].upper() + measure.name[1:] if measure.kind == "target" else measure.name
    size = (WIDTH, ROW * len(arms) + _AXIS, Margins(_LEFT, 10, 22))
    return Plot(f"level-{slug(measure.key)}", title, measure.detail, describe(measure), *size, draw)


def differences(measure: Measure, limit: float) -> Plot:
    """Each arm against base, item by item, in points: filled where the interval excludes zero, hollow where it does not."""
    arms = in_order({a for a, b in measure.differences if b == "base"})

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1, zorder=1.8)  # above the grid, which the axis draws at 1.5
        for row, arm in enumerate(arms):
            estimate = measure.differences[arm, "base"]
            axes.errorbar(
                estimate.value, row, xerr=whisker(estimate), fmt="o", markersize=7, color=color(arm), capsize=3,
                markerfacecolor=color(arm) if estimate.sign() else "none", markeredgewidth=1.6, elinewidth=1.6, zorder=3,
            )  # fmt: skip
            axes.annotate(
                signed(100 * estimate.value, estimate.n), (1, row), (8, 0), textcoords="offset points",
                xycoords=("axes fraction", "data"), va="center", ha="left",
                fontweight="bold" if estimate.sign() else "normal", annotation_clip=False,
            )  # fmt: skip
        axes.set_xlim(-limit, limit)
        step = _step(limit)
        count = int(limit / step + 1e-9)
        ticks = [i * step for i in range(-count, count + 1)]
        axes.set_xticks(ticks, [signed(100 * tick) for tick in ticks])
        axes.grid(axis="x", zorder=0)
        arm_rows(axes, arms)

    size = (WIDTH, ROW * len(arms) + _AXIS, Margins(_LEFT, 50, 22))
    return Plot(f"difference-{slug(measure.key)}", measure.name, "", describe_differences(measure), *size, draw)


def difference_limit(measures: Sequence[Measure]) -> float:
    """A common half-width for panels of differences: the widest interval, up to the next five points."""
    widest = max(
        (
            abs(bound)
            for measure in measures
            for (_, other), estimate in measure.differences.items()
            if other == "base"
            for bound in (estimate.value, estimate.low, estimate.high)
        ),
        default=0.0,
    )
    return max(0.05, -(-widest * 1.02 // 0.05) * 0.05)


def _step(limit: float) -> float:
    return next(step for step in (0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0) if limit / step <= 3.01)


def slug(text: str) -> str:
    """An id out of a key: letters, digits and dashes."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in text)


def describe(measure: Measure) -> str:
    """A panel of levels in words, for a screen reader."""
    parts = []
    for arm in in_order(set(measure.estimates)):
        estimate = measure.estimates[arm]
        parts.append(f"{label(arm)} {estimate.share}" + (f" ({estimate.share_range})" if estimate.has_interval else ""))
    return f"{measure.name}: {', '.join(parts)}"


def describe_differences(measure: Measure) -> str:
    """A panel of differences in words, for a screen reader."""
    parts = [
        f"{label(arm)} {estimate.points} ({estimate.points_range})"
        for (arm, other), estimate in measure.differences.items()
        if other == "base"
    ]
    return f"{measure.name}, difference against base: {', '.join(parts)}"
