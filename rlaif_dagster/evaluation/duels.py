"""Two answers to one prompt before the judge: the probability that the first is preferred under the constitution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.judging.verdicts import Judge, Pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging


@dataclass(frozen=True)
class Duel:
    """A prompt and two answers."""

    prompt_id: str
    prompt: str
    a: str
    b: str

    @property
    def identical(self) -> bool:
        return self.a.strip() == self.b.strip()

    @property
    def swapped(self) -> bool:
        """Whether the judge is shown `b` first. Content decides, so that no arm always stands in the same place, and
        two arms (or seeds) with the same answers ask the judge once."""
        return _answer_id(self.prompt_id, self.a) > _answer_id(self.prompt_id, self.b)

    def pair(self) -> Pair:
        first, second = (self.b, self.a) if self.swapped else (self.a, self.b)
        first_id, second_id = _answer_id(self.prompt_id, first), _answer_id(self.prompt_id, second)
        pair_id = content_hash(self.prompt_id, first_id, second_id)
        return Pair(pair_id, self.prompt_id, self.prompt, first_id, first, second_id, second)


def _answer_id(prompt_id: str, text: str) -> str:
    return content_hash(prompt_id, text)


def win_probabilities(
    duels: Sequence[Duel], constitution: Constitution, recipe: Judging, judge: Judge, *, progress: str | None = None
) -> list[float | None]:
    """For each duel the probability that `a` is preferred, over principles by weight and averaged over orders: 0.5
    unasked when the answers are the same, None when no verdict came (refused, unparseable, error)."""
    pairs = {(pair := duel.pair()).pair_id: pair for duel in duels if not duel.identical}
    if not pairs:
        return [0.5] * len(duels)
    orders = ("ab", "ba") if recipe.orders == "both" else ("ab",)
    judgments = judge.judge(
        list(pairs.values()), constitution.principles, orders, budget_usd=recipe.budget_usd, progress=progress
    )
    known = preferences(judgments, constitution)
    p_first = {pair_id: p for pair_id, p in zip(known["pair_id"], known["p_a"], strict=True) if not pd.isna(p)}
    out: list[float | None] = []
    for duel in duels:
        p = 0.5 if duel.identical else p_first.get(duel.pair().pair_id)
        out.append(None if p is None else float(1 - p) if duel.swapped and not duel.identical else float(p))
    return out
