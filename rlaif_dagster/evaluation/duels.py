"""Two answers to one prompt before the judge: the probability that the first is preferred under the constitution."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.judging.judgments import orders_of
from rlaif_dagster.judging.verdicts import Judge, Pair, make_pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging


@dataclass(frozen=True)
class Duel:
    """A prompt and two answers to it."""

    prompt_id: str
    prompt: str
    a: str
    b: str

    @property
    def identical(self) -> bool:
        return self.a.strip() == self.b.strip()

    @cached_property
    def pair(self) -> Pair:
        """What the judge is given. Content decides which answer comes first, so that no arm always stands in the same
        place, and two arms (or seeds) with the same answers are judged once."""
        first, second = ((content_hash(self.prompt_id, text), text) for text in (self.a, self.b))
        return make_pair(self.prompt_id, self.prompt, first, second)

    @property
    def swapped(self) -> bool:
        """Whether the pair's first answer is this duel's second."""
        return self.pair.a != self.a


@dataclass(frozen=True)
class Judged:
    """What the judge made of a duel: the probability that `a` is preferred, None when no verdict came.

    `consistent` says whether both orders agree (None for a judge without orders, or unasked); `error` that some verdict
    could not be had from the provider, so that asking again may change the probability.
    """

    p: float | None
    consistent: bool | None = None
    error: bool = False


def judge_duels(
    duels: Sequence[Duel], constitution: Constitution, recipe: Judging, judge: Judge, *, progress: str | None = None
) -> list[Judged]:
    """For each duel the probability that `a` is preferred, over principles by weight and averaged over orders; 0.5 unasked
    when the answers are the same.

    Raises UserError when the recipe's budget does not suffice; what was judged is kept.
    """
    pairs = {duel.pair.pair_id: duel.pair for duel in duels if not duel.identical}
    if not pairs:
        return [Judged(0.5)] * len(duels)
    judgments = judge.judge(
        list(pairs.values()),
        constitution,
        orders_of(recipe),
        mode=recipe.mode,
        budget_usd=recipe.budget_usd,
        progress=progress,
    )
    errors = set(judgments.loc[judgments["verdict"] == "error", "pair_id"])
    known = {str(row["pair_id"]): row for row in preferences(judgments, constitution).to_dict("records")}
    return [
        Judged(0.5) if duel.identical else _judged(duel, known.get(duel.pair.pair_id), duel.pair.pair_id in errors)
        for duel in duels
    ]


def _judged(duel: Duel, row: Mapping[Hashable, Any] | None, error: bool) -> Judged:
    if row is None:
        return Judged(None, None, error)
    consistent = None if pd.isna(row["order_consistent"]) else bool(row["order_consistent"])
    if pd.isna(row["p_a"]):
        return Judged(None, consistent, error)
    p = float(row["p_a"])
    return Judged(1 - p if duel.swapped else p, consistent, error)
