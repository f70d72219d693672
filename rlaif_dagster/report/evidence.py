"""What was measured in one grid cell, computed once from the tables for the verdict, the tables and the plots.

A *measure* is a share between 0 and 1 that every arm has a level of: adherence by decoding, or a benchmark suite. Arms
are compared item by item (the same prompts, the same questions), so a difference's interval is much narrower than the
two levels' intervals would suggest. Several seeds of an arm are a level of their own (`statistics.over_seeds`): they do not
count as more items, and what differs between them widens the interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Literal

import numpy as np
import pandas as pd

from rlaif_dagster.evaluation.comparison import compare, level_over_seeds, scores_of
from rlaif_dagster.evaluation.head_to_head import pooled
from rlaif_dagster.report.arms import ARMS
from rlaif_dagster.report.estimate import Estimate
from rlaif_dagster.report.suites import Suite, suites_of
from rlaif_dagster.statistics import bootstrap_mean, wilson
from rlaif_dagster.warehouse.schemas import TABLES

SEED = 0  # of every bootstrap of the report, so that the same tables give the same page

DECODINGS = {"greedy": "greedy adherence", "sampled": "sampled adherence"}


@dataclass(frozen=True)
class Measure:
    """A level an arm and a paired difference a pair of arms (`differences[a, b]` is a minus b)."""

    key: str
    name: str
    kind: Literal["target", "alignment", "capability"]
    estimates: dict[str, Estimate]
    differences: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    detail: str = ""
    chance: float | None = None
    headline: bool = True

    @property
    def items(self) -> int:
        """Items behind the levels, the smallest of the arms'."""
        return min((estimate.n for estimate in self.estimates.values()), default=0)

    def compared(self, arms: Iterable[str]) -> bool:
        """Whether any of `arms` has a paired difference against base."""
        return any((arm, "base") in self.differences for arm in arms)


@dataclass(frozen=True)
class WinRate:
    """How often the judge preferred one arm's answer to another's, a tie counting half."""

    rate: Estimate
    wins: int
    losses: int
    ties: int
    length_controlled: float | None
    controlled_range: tuple[float, float] = (math.nan, math.nan)

    @property
    def controlled(self) -> Estimate | None:
        """The win rate at equal length with its interval, where one was computed."""
        if self.length_controlled is None:
            return None
        return Estimate(self.length_controlled, *self.controlled_range, self.rate.n)

    def reversed(self) -> WinRate:
        """The same comparison from the other arm's side."""
        rate = replace(self.rate, value=1 - self.rate.value, low=1 - self.rate.high, high=1 - self.rate.low)
        controlled = None if self.length_controlled is None else 1 - self.length_controlled
        low, high = self.controlled_range
        return replace(
            self, rate=rate, wins=self.losses, losses=self.wins, length_controlled=controlled,
            controlled_range=(1 - high, 1 - low),
        )  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """Everything that the verdict may speak about."""

    adherence: tuple[Measure, ...] = ()
    suites: tuple[Measure, ...] = ()
    wins: dict[tuple[str, str], WinRate] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)

    @property
    def headlines(self) -> tuple[Measure, ...]:
        """One measure a suite: where a task has several metrics, the one that its authors report."""
        return tuple(suite for suite in self.suites if suite.headline)


def table(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """The named table; without rows but with its columns when the cell has none."""
    frame = tables.get(name)
    if frame is None or frame.empty:
        return pd.DataFrame(columns=[column.name for column in TABLES[name].all_columns])
    if name == "qualitative":  # a home of a release that graded an arm's first seed does not say which it was
        frame = frame.assign(seed=frame["seed"].fillna(0).astype(int))
    return frame.reset_index(drop=True)


def gather(tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Measure a cell from its tables adherence, benchmarks, benchmark_items and head_to_head."""
    adherence, benchmarks = table(tables, "adherence"), table(tables, "benchmarks")
    return Evidence(
        adherence=tuple(_adherence(adherence)),
        suites=tuple(_measure(suite) for suite in suites_of(benchmarks, table(tables, "benchmark_items"))),
        wins=_wins(table(tables, "head_to_head")),
        seeds=_seeds(adherence, benchmarks),
    )


Scores = tuple[np.ndarray, pd.Index]
"""One arm's scores between 0 and 1, [seeds, items], and the items' names."""


def scores_by_arm(frame: pd.DataFrame, item: str, value: str) -> dict[str, Scores]:
    """Each arm's scores on the items that all its seeds have; arms without any are left out."""
    found = {str(arm): scores_of(rows, item, value) for arm, rows in frame.groupby("arm")}
    return {arm: scores for arm, scores in found.items() if len(scores[1])}


def paired(scores: Mapping[str, Scores]) -> dict[tuple[str, str], Estimate]:
    """Differences of every ordered pair of arms over the items that both have. Each is computed once a pair: the reverse is
    its mirror image, so that the report never contradicts itself."""
    out: dict[tuple[str, str], Estimate] = {}
    for a, b in permutations([arm for arm in ARMS if arm in scores], 2):
        if (b, a) in out:
            other = out[b, a]
            out[a, b] = replace(other, value=-other.value, low=-other.high, high=-other.low)
            continue
        if found := difference(scores[a], scores[b]):
            out[a, b] = found
    return out


def difference(a: Scores, b: Scores) -> Estimate | None:
    """Mean of a minus b over the items that both have, paired, with all seeds; None with fewer than two items."""
    shared = a[1].intersection(b[1])
    if len(shared) < 2:
        return None
    found = compare(*(each[:, names.get_indexer(shared)] for each, names in (a, b)))
    return Estimate(*found.difference, len(shared), found.seed_share)


def level(scores: Scores) -> Estimate:
    """An arm's mean: over items where it has one seed, over items and seeds where it has several."""
    values, names = scores
    if len(values) == 1 or len(names) < 2:
        return share_of(pd.Series(values.mean(axis=0)))
    found = level_over_seeds(values)
    return Estimate(found.value, found.low, found.high, len(names), found.seed_share)


def _adherence(adherence: pd.DataFrame) -> Iterable[Measure]:
    held_out = adherence[adherence["split"] == "eval"]
    for decoding, name in DECODINGS.items():
        rows = held_out[held_out["decoding"] == decoding]
        scores = scores_by_arm(rows, "prompt_id", "adherent")
        if scores:
            estimates = {arm: level(each) for arm, each in scores.items()}
            detail = f"{min(estimate.n for estimate in estimates.values())} held-out prompts"
            yield Measure(f"adherence-{decoding}", name, "target", estimates, paired(scores), detail)


def share_of(values: pd.Series) -> Estimate:
    """Mean of values between 0 and 1: with Wilson's interval for plain yes and no, else a bootstrap's."""
    n, mean = len(values), float(values.mean())
    if values.isin([0.0, 1.0]).all():
        low, high = wilson(int(values.sum()), n)
    else:
        _, low, high = bootstrap_mean(values.to_numpy(), SEED)
    return Estimate(mean, float(low), float(high), n)


def _measure(suite: Suite) -> Measure:
    scores = scores_by_arm(suite.items, "item_id", "score")
    several = {arm: level(each) for arm, each in scores.items() if len(each[0]) > 1}
    estimates = {**suite.estimates, **several}
    return Measure(
        suite.key, suite.name, suite.kind, estimates, paired(scores), suite.detail, suite.chance, suite.headline
    )


def _wins(head_to_head: pd.DataFrame) -> dict[tuple[str, str], WinRate]:
    out: dict[tuple[str, str], WinRate] = {}
    for row in pooled(head_to_head).to_dict("records"):
        wins, losses, ties = int(row["wins_a"]), int(row["wins_b"]), int(row["ties"])
        meetings = wins + losses + ties
        prompts = meetings if pd.isna(row.get("n")) else int(row["n"])  # several seeds meet on one prompt
        share = _known(row.get("seed_share"))
        rate = Estimate(float(row["win_rate"]), float(row["ci_low"]), float(row["ci_high"]), prompts, share)
        controlled = _known(row.get("length_controlled_win_rate"))
        bounds = (_known(row.get("length_controlled_low")), _known(row.get("length_controlled_high")))
        between = (math.nan if bounds[0] is None else bounds[0], math.nan if bounds[1] is None else bounds[1])
        one = WinRate(rate, wins, losses, ties, controlled, between)
        a, b = str(row["arm_a"]), str(row["arm_b"])
        out[a, b], out[b, a] = one, one.reversed()
    return out


def _known(value: object) -> float | None:
    return None if value is None or pd.isna(value) else float(value)  # type: ignore[arg-type]


def _seeds(*frames: pd.DataFrame) -> dict[str, int]:
    """How many training seeds each arm was evaluated with."""
    seeds = pd.concat(
        [frame[["arm", "seed"]] for frame in frames if not frame.empty] or [pd.DataFrame(columns=["arm", "seed"])]
    )
    return {str(arm): int(rows["seed"].nunique()) for arm, rows in seeds.groupby("arm")}
