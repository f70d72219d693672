"""The figures: small multiples, one panel a suite or a curve, so that they wrap on a narrow screen instead of shrinking.

Each function returns a matplotlib `Figure` drawn through the object interface (no pyplot, no global state beside the
style). Sizes are in units of 1/72 inch, which the page shows as about one CSS pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rlaif_dagster.report.arms import LIGHT, in_order, label
from rlaif_dagster.report.curves import Curve
from rlaif_dagster.report.estimate import Estimate, number, percent, signed
from rlaif_dagster.report.evidence import Measure
from rlaif_dagster.report.svg import FAINT, INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 330
CURVE_WIDTH = 265
_TOP = 7
_ROW = 25
_LEFT = 40  # for the arms' names
_WHISKER = {"color": INK, "elinewidth": 1.2, "capsize": 3, "capthick": 1.2}


@contextmanager
def _canvas(width: float, height: float, left: float, right: float, bottom: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes inside the given margins; whatever is drawn within the block has the page's style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / 72, height / 72))
        box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + _TOP) / height)
        yield figure, figure.add_axes(box)


def _color(arm: str) -> str:
    return LIGHT.get(arm, INK)


def _arm_rows(axes: Axes, arms: Sequence[str]) -> None:
    """One row an arm from the top, named on the left."""
    axes.set_yticks(range(len(arms)), [label(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelsize=11)
    axes.spines["left"].set_visible(False)


def levels(measure: Measure) -> Figure:
    """Bars from 0 to 100% with 95% whiskers, one an arm; a dotted line where guessing would be."""
    arms = in_order(set(measure.estimates))
    with _canvas(WIDTH, _ROW * len(arms) + 30, _LEFT, 10, 22) as (figure, axes):
        for row, arm in enumerate(arms):
            estimate = measure.estimates[arm]
            axes.barh(row, estimate.value, height=0.62, color=_color(arm), linewidth=0, zorder=2)
            axes.errorbar(estimate.value, row, xerr=_whisker(estimate), fmt="none", zorder=3, **_WHISKER)
            end = max(estimate.value, estimate.high) if estimate.has_interval else estimate.value
            axes.text(end + 0.025, row, estimate.share, va="center", ha="left", fontweight="bold", zorder=4)
        if measure.chance is not None:
            axes.axvline(measure.chance, color=INK, linewidth=1, linestyle=(0, (1, 2)), zorder=2.5)
        axes.set_xlim(0, 1.14)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        axes.set_xticks(ticks, [percent(tick) for tick in ticks])
        axes.spines["bottom"].set_bounds(0, 1)
        axes.grid(axis="x", zorder=0)
        _arm_rows(axes, arms)
    return figure


def differences(measure: Measure, limit: float) -> Figure:
    """Each arm against base, item by item, in points: filled where the interval excludes zero, hollow where it does not."""
    arms = in_order({a for a, b in measure.differences if b == "base"})
    with _canvas(WIDTH, _ROW * len(arms) + 30, _LEFT, 50, 22) as (figure, axes):
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        for row, arm in enumerate(arms):
            estimate = measure.differences[arm, "base"]
            axes.errorbar(
                estimate.value, row, xerr=_whisker(estimate), fmt="o", markersize=7, color=_color(arm), capsize=3,
                markerfacecolor=_color(arm) if estimate.sign() else "none", markeredgewidth=1.6, elinewidth=1.6, zorder=3,
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
        _arm_rows(axes, arms)
    return figure


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


def _whisker(estimate: Estimate) -> list[list[float]] | None:
    if not estimate.has_interval:
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]


def learning(curves: Sequence[Curve], unit: str, zero: bool = False) -> Figure:
    """Learning curves of one quantity over steps; held-out values dashed with dots, several seeds as several lines."""
    with _canvas(CURVE_WIDTH, 158, 46, 10, 34) as (figure, axes):
        for curve in curves:
            style = (
                {"linestyle": (0, (3, 2)), "marker": "o", "markersize": 3.5} if curve.held_out else {"linestyle": "-"}
            )
            if len(curve.steps) == 1:
                style["marker"] = "o"
            axes.plot(curve.steps, curve.values, color=_color(curve.arm), linewidth=1.6, **style)
        if zero:
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.locator_params(axis="y", nbins=4)
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.yaxis.set_major_formatter(lambda value, _: _tick(value))
        axes.set_xlabel(unit, fontsize=9, labelpad=2)
        axes.grid(axis="y", zorder=0)
    return figure


def _tick(value: float) -> str:
    if value and (abs(value) >= 10_000 or abs(value) < 0.001):
        return f"{value:.0e}".replace("-", "\N{MINUS SIGN}")
    return f"{value:,.4g}".replace("-", "\N{MINUS SIGN}")


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


def describe_learning(title: str, curves: Sequence[Curve]) -> str:
    """A panel of curves in words: where each starts and ends."""
    parts = [
        f"{'held out' if curve.held_out else 'training'} from {number(curve.values[0], 1000)} to "
        f"{number(curve.values[-1], 1000)} at step {curve.steps[-1]}"
        for curve in curves
    ]
    return f"{title}: {', '.join(parts)}"
