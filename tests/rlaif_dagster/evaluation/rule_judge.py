"""A judge by a rule, for tests whose numbers are worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from rlaif_dagster.judging.verdicts import Judgment, Mode, Order, Pair, judgments_frame, verdict_of
from rlaif_dagster.spec.constitution import Constitution


@dataclass
class RuleJudge:
    """`p(first, second)` is the probability that the first text is preferred, None for a refusal; `fails(pair, order)`
    says when no reply comes; `pairs` keeps what was asked."""

    p: Callable[[str, str], float | None]
    name: str = "rule"
    template_version: str = "1"
    fails: Callable[[Pair, Order], bool] = lambda pair, order: False
    pairs: list[Pair] = field(default_factory=list)

    def judge(
        self,
        pairs: Sequence[Pair],
        constitution: Constitution,
        orders: Sequence[Order],
        *,
        mode: Mode = "per_principle",
        budget_usd: float | None = None,
        progress: str | None = None,
    ) -> pd.DataFrame:
        self.pairs += pairs
        return judgments_frame(
            [
                self._judgment(pair, principle.id, order)
                for pair in pairs
                for principle in constitution.principles
                for order in orders
            ]
        )

    def _judgment(self, pair: Pair, principle_id: str, order: Order) -> Judgment:
        error = self.fails(pair, order)
        p_a = None if error else self.p(pair.a, pair.b)
        verdict = "error" if error else "refused" if p_a is None else verdict_of(p_a)
        return Judgment(
            pair.pair_id, pair.prompt_id, pair.a_id, pair.b_id, principle_id, order, verdict, p_a, "", self.name,
            self.template_version, 0, 0, 0.0, 0.0, False,
        )  # fmt: skip


def marks(first: str, second: str) -> float:
    """More exclamation marks win."""
    difference = first.count("!") - second.count("!")
    return 0.5 if difference == 0 else 0.9 if difference > 0 else 0.1
