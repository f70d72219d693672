"""Two answers to one prompt before the judge: the probability that the first is preferred under the constitution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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


def win_probabilities(
    duels: Sequence[Duel], constitution: Constitution, recipe: Judging, judge: Judge, *, progress: str | None = None
) -> list[float | None]:
    """For each duel the probability that `a` is preferred, over principles by weight and averaged over orders: 0.5
    unasked when the answers are the same, None when no verdict came (refused, unparseable, error).

    Raises UserError when the recipe's budget does not suffice; what was judged is kept.
    """
    pairs = {duel.pair.pair_id: duel.pair for duel in duels if not duel.identical}
    if not pairs:
        return [0.5] * len(duels)
    judgments = judge.judge(
        list(pairs.values()),
        constitution,
        orders_of(recipe),
        mode=recipe.mode,
        budget_usd=recipe.budget_usd,
        progress=progress,
    )
    known = preferences(judgments, constitution)
    p_first = dict(zip(known["pair_id"], known["p_a"], strict=True))
    return [0.5 if duel.identical else _p_of(duel, p_first.get(duel.pair.pair_id)) for duel in duels]


def _p_of(duel: Duel, p_first: float | None) -> float | None:
    if p_first is None or pd.isna(p_first):
        return None
    return float(1 - p_first) if duel.swapped else float(p_first)
