"""Two arms on the same items: the difference, what it is worth, and a plain sentence about it.

Items are paired, so what makes a question hard for everybody drops out. A policy that was trained several times is
compared with all its seeds (see `statistics.over_seeds`): the sentence then speaks of the method, and of one policy's
weights alone where there is one seed. A difference counts when its 95% interval excludes zero; for yes-or-no items of one
seed a side McNemar's p-value stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from rlaif_dagster.statistics import (
    Crossed,
    Estimate,
    detectable,
    items_needed,
    mcnemar,
    mean_interval,
    over_seeds,
    paired_deviation,
    paired_difference,
    share_over_seeds,
)

ARMS = ("base", "sft", "dpo", "ppo")
POWER = "80%"
COLUMNS = [
    "task", "metric", "category", "arm_a", "arm_b", "value_a", "value_b", "difference", "ci_low", "ci_high", "n", "seeds_a",
    "seeds_b", "p_value", "standing", "n_needed", "sentence",
]  # fmt: skip

Standing = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True)
class Comparison:
    """Arm a against arm b over `n` items: levels, the difference a - b, and its 95% interval (shares, 0 to 1).

    `deviation` is the standard deviation of an item's difference that makes for the interval's width; `p_value` is
    McNemar's, None where scores are no yes or no or a side has several seeds; `seed_share` the part of the variance that
    comes from the seeds, None where each side has one.
    """

    a: float
    b: float
    difference: Estimate
    n: int
    seeds: tuple[int, int]
    deviation: float
    p_value: float | None
    seed_share: float | None

    @property
    def standing(self) -> Standing:
        """What may be said of a against b."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "not distinguishable"

    @property
    def n_needed(self) -> int | None:
        """Items that would tell a difference of this size from zero; None where none was seen, or where the seeds, and not
        the items, are what is too few."""
        if self.seed_share is not None and self.seed_share > 0.5:
            return None
        return items_needed(self.difference.value, self.deviation)

    @property
    def detectable(self) -> float:
        """The smallest difference that these items would most likely have shown."""
        return detectable(self.deviation, self.n)

    def sentence(self, a: str, b: str, measure: str) -> str:
        """For a reader who knows no statistics: which is better, by how much, and how sure that is."""
        points, low, high = (_points(bound) for bound in self.difference)
        evidence = f"95% interval {low} to {high}{self._told_seeds()}"
        if self.p_value is not None:
            evidence += f", McNemar p = {self.p_value:.2g}"
        if self.standing != "not distinguishable":
            return f"{a} is {self.standing} than {b} on {measure}: {points} points ({evidence}, n = {self.n:,})."
        said = f"{a} and {b} are not distinguishable on {measure} at n = {self.n:,}: {points} points ({evidence})."
        return f"{said} {self._remedy()}"

    def _told_seeds(self) -> str:
        return "" if self.seeds == (1, 1) else f", seeds {self.seeds[0]} against {self.seeds[1]}"

    def _remedy(self) -> str:
        """What it would take to know more."""
        if not self.deviation:
            return "Both gave the same on every item."
        if self.detectable >= 1:
            shown = "So few items show hardly any difference"
        else:
            size = _points(self.detectable)[1:]
            shown = f"These items would most likely ({POWER}) have shown a difference of {size} points"
        if self.difference.value == 0:
            return f"{shown}."
        if self.n_needed is None:
            return (
                "Most of the uncertainty is between training seeds: more seeds would tell more, more items would not."
            )
        return (
            f"To tell a difference of this size from none it would take about {_round(self.n_needed):,} items. {shown}."
        )


def compare(a: np.ndarray, b: np.ndarray) -> Comparison:
    """The comparison of scores [seeds of a, items] and [seeds of b, the same items]. Raises ValueError for different
    items or fewer than two."""
    first, second = np.atleast_2d(np.asarray(a, dtype=float)), np.atleast_2d(np.asarray(b, dtype=float))
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"the sides must have the same items, found {first.shape[1]} and {second.shape[1]}")
    n, seeds = first.shape[1], (len(first), len(second))
    levels = float(first.mean()), float(second.mean())
    if seeds == (1, 1):
        one, other = first[0], second[0]
        decided = bool(np.isin(one, (0.0, 1.0)).all() and np.isin(other, (0.0, 1.0)).all())
        return Comparison(
            *levels, paired_difference(one, other), n, seeds, paired_deviation(one, other),
            mcnemar(one, other) if decided else None, None,
        )  # fmt: skip
    found = over_seeds(first, second)
    return Comparison(
        *levels, Estimate(found.value, found.low, found.high), n, seeds, found.stderr * float(np.sqrt(n)), None,
        found.seed_share,
    )  # fmt: skip


def scores_of(items: pd.DataFrame, item: str, score: str) -> tuple[np.ndarray, pd.Index]:
    """Scores [seeds, items] of one arm, and the items' names: those that every seed has. Rows without a score are left
    out."""
    known = items[items[score].notna()]
    table = known.assign(score_=known[score].astype(float)).pivot_table("score_", index="seed", columns=item, sort=True)
    table = table.dropna(axis=1)
    return table.to_numpy(), table.columns


def comparisons(
    items: pd.DataFrame, *, item: str = "item_id", score: str = "score", by: Iterable[str] = ("task", "metric")
) -> pd.DataFrame:
    """Every two arms, the later one first (dpo against base), on every task and metric and, where items have categories,
    on each of those; columns COLUMNS.

    `items` is the table benchmark_items, or any with arm, seed, an item, a score and the columns `by`. Arms without two
    items in common are left out.
    """
    rows = []
    for keys, own in items.groupby(list(by), sort=True, dropna=False):
        named = dict(zip(by, keys if isinstance(keys, tuple) else (keys,), strict=True))
        parts: list[tuple[str | None, pd.DataFrame]] = [(None, own)]
        if "category" in own and own["category"].nunique() > 1:
            parts += [(str(category), rows_of) for category, rows_of in own.groupby("category", sort=True)]
        for category, part in parts:
            scores = {str(arm): scores_of(of_arm, item, score) for arm, of_arm in part.groupby("arm")}
            for b, a in combinations(_in_order(scores), 2):
                if found := _compared(scores[a], scores[b]):
                    rows.append(_row(named, category, a, b, found))
    return pd.DataFrame(rows, columns=COLUMNS)


def levels(items: pd.DataFrame, *, item: str = "item_id", score: str = "score") -> dict[str, tuple[Estimate, int]]:
    """The mean score of every arm with its interval over items and seeds, and n."""
    out = {}
    for arm, own in items.groupby("arm", sort=True):
        scores, names = scores_of(own, item, score)
        if len(names) < 2:
            continue
        if len(scores) == 1:
            mean = mean_interval(scores[0])
            out[str(arm)] = Estimate(mean.value, mean.low, mean.high), len(names)
        else:
            found = level_over_seeds(scores)
            out[str(arm)] = Estimate(found.value, found.low, found.high), len(names)
    return out


def level_over_seeds(scores: np.ndarray) -> Crossed:
    """The mean of scores [seeds, items]; where they lie between 0 and 1, its interval does so too."""
    shares = bool(scores.min() >= 0 and scores.max() <= 1)
    return share_over_seeds(scores) if shares else over_seeds(scores)


def _in_order(arms: Iterable[str]) -> list[str]:
    present = set(arms)
    return [arm for arm in ARMS if arm in present] + sorted(present - set(ARMS))


def _compared(a: tuple[np.ndarray, pd.Index], b: tuple[np.ndarray, pd.Index]) -> Comparison | None:
    shared = a[1].intersection(b[1])
    if len(shared) < 2:
        return None
    return compare(a[0][:, a[1].get_indexer(shared)], b[0][:, b[1].get_indexer(shared)])


def _row(named: dict[str, str], category: str | None, a: str, b: str, found: Comparison) -> dict[str, object]:
    measure = " ".join(str(value) for value in named.values() if pd.notna(value))
    return {
        "task": named.get("task"), "metric": named.get("metric"), "category": category, "arm_a": a, "arm_b": b,
        "value_a": found.a, "value_b": found.b, "difference": found.difference.value, "ci_low": found.difference.low,
        "ci_high": found.difference.high, "n": found.n, "seeds_a": found.seeds[0], "seeds_b": found.seeds[1],
        "p_value": found.p_value, "standing": found.standing, "n_needed": found.n_needed,
        "sentence": found.sentence(a, b, f"{measure}, {category}" if category else measure),
    }  # fmt: skip


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\u2212")


def _round(n: int) -> int:
    """Two significant digits: the estimate is no better."""
    digits = max(0, len(str(n)) - 2)
    return int(round(n / 10**digits) * 10**digits)
