"""Plots of training: learning curves, and PPO's reward against its distance from where it started.

Reward bought with distance is what reward hacking looks like (Gao et al., 2022, "Scaling laws for reward model
overoptimization"): the reward model's score keeps rising while the answers leave what it was trained to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rlaif_dagster.report.curves import Curve, Panel, first_recorded, unit_of
from rlaif_dagster.report.drawing import Margins, Plot, color
from rlaif_dagster.report.estimate import number
from rlaif_dagster.report.svg import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 265, 158
_HELD_OUT_LINE = {"linestyle": (0, (3, 2)), "marker": "o", "markersize": 3.5}


def learning(panel: Panel, curves: Sequence[Curve]) -> Plot:
    """One quantity over steps; held-out values dashed with dots, several seeds as several lines."""

    def draw(axes: Axes) -> None:
        for curve in curves:
            style = dict(_HELD_OUT_LINE) if curve.held_out else {"linestyle": "-"}
            if len(curve.steps) == 1:
                style["marker"] = "o"
            axes.plot(curve.steps, curve.values, color=color(curve.arm), linewidth=1.6, **style)
        if panel.zero:
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.locator_params(axis="y", nbins=4)
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.yaxis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel(unit_of(panel.arm), fontsize=9, labelpad=2)
        axes.grid(axis="y", zorder=0)

    words = describe_learning(panel.title, curves)
    return Plot(panel.key, panel.title, panel.hint, words, _WIDTH, _HEIGHT, Margins(46, 10, 34), draw)


@dataclass(frozen=True)
class Path:
    """Where one PPO run went: updates, KL to its start (nats an answer) and reward, in order; `published` is the update
    whose weights were kept, None where that was not recorded."""

    held_out: bool
    updates: list[int]
    kl: list[float]
    reward: list[float]
    published: int | None


def reward_paths(metrics: pd.DataFrame) -> list[Path]:
    """The runs that recorded both quantities at the same updates, one a seed, on training and on held-out prompts."""
    ppo = metrics[metrics["arm"] == "ppo"]
    out = []
    for held_out in (False, True):
        prefix = "held_out_" if held_out else ""
        # a plain `kl` of the training itself is the last update's, not the distance to the start
        kl = first_recorded(
            ppo, [prefix + name for name in (("kl_reference", "kl") if held_out else ("kl_reference",))]
        )
        reward = first_recorded(ppo, [prefix + name for name in ("reward", "score", "scores")])
        if kl is None or reward is None:
            continue
        for seed, rows in ppo[ppo["name"].isin([kl, reward])].groupby("seed", dropna=False):
            wide = rows.pivot_table(index="step", columns="name", values="value").reindex(columns=[kl, reward])
            wide = wide[np.isfinite(wide).all(axis=1)].sort_index()
            if len(wide):
                kept = ppo[(ppo["name"] == "published_update") & (ppo["seed"] == seed)]["value"]
                published = int(kept.iloc[-1]) if len(kept) else None
                steps = [int(step) for step in wide.index]
                out.append(Path(held_out, steps, wide[kl].tolist(), wide[reward].tolist(), published))
    return out


def reward_against_kl(paths: Sequence[Path]) -> Plot:
    """Reward over KL, joined in the order of the updates: the start named, the published one filled, and named where it is the
    only one."""
    first = {path.held_out: path for path in reversed(paths)}
    alone = sum(path.held_out for path in paths) == 1

    def draw(axes: Axes) -> None:
        for path in paths:
            style = (
                {**_HELD_OUT_LINE, "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.6}
                if path.held_out
                else {"linestyle": "-", "marker": "o", "markersize": 3.5}
            )
            axes.plot(path.kl, path.reward, color=color("ppo"), linewidth=1.4, zorder=3, **style)
            published = _published(path)
            axes.plot(
                [path.kl[place] for place in published], [path.reward[place] for place in published], "o", color=color("ppo"),
                markersize=7, zorder=4,
            )  # fmt: skip
            names = {0: "held-out prompts" if path.held_out else "training"} if path is first[path.held_out] else {}
            names |= {place: f"update {path.published}, published" for place in published if alone}
            for place, name in names.items():
                start = place == 0
                axes.annotate(
                    name, (path.kl[place], path.reward[place]), (8, -5) if start else (0, 9), fontsize=9, color=INK,
                    textcoords="offset points", va="top" if start else "bottom", ha="left" if start else "center", zorder=4,
                )  # fmt: skip
        axes.margins(x=0.12, y=0.16)
        axes.locator_params(axis="both", nbins=5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: tick(value))
        axes.set_xlabel("KL to the start, nats an answer", fontsize=9, labelpad=3)
        axes.set_ylabel("reward", fontsize=9, labelpad=3)
        axes.grid(zorder=0)

    hint = "points are updates, joined in their order; filled and large: published"
    return Plot("reward-kl", "PPO: reward against KL", hint, describe_paths(paths), 400, 250, Margins(52, 14, 38), draw)


def _published(path: Path) -> list[int]:
    """The places on a held-out path of the update whose weights were kept: one, or none."""
    return [place for place, update in enumerate(path.updates) if path.held_out and update == path.published]


def tick(value: float) -> str:
    """A number on an axis, with a true minus."""
    if value and (abs(value) >= 10_000 or abs(value) < 0.001):
        return f"{value:.0e}".replace("-", "\N{MINUS SIGN}")
    return f"{value:,.4g}".replace("-", "\N{MINUS SIGN}")


def describe_learning(title: str, curves: Sequence[Curve]) -> str:
    """A panel of curves in words: where each starts and ends."""
    parts = [
        f"{'held out' if curve.held_out else 'training'} from {number(curve.values[0], 1000)} to "
        f"{number(curve.values[-1], 1000)} at step {curve.steps[-1]}"
        for curve in curves
    ]
    return f"{title}: {', '.join(parts)}"


def describe_paths(paths: Sequence[Path]) -> str:
    """Reward against KL in words: where each run ends."""
    parts = [
        f"{'held out' if path.held_out else 'training'}, reward from {number(path.reward[0], 1000)} to "
        f"{number(path.reward[-1], 1000)} at {number(path.kl[-1], 1000)} nats from the start"
        for path in paths
    ]
    return f"PPO's reward against KL: {'; '.join(parts)}"
