"""From many verdicts on a pair to one preference.

    p(a) = sum over principles of weight * mean over orders of p(a), divided by the weights of the principles counted

Both orders count alike, which takes out the judge's liking for a place (arXiv 2309.00267). A failed verdict (refused,
unparseable, error) is left out and counted; a principle without any verdict gives up its weight.
"""

from __future__ import annotations

import pandas as pd

from rlaif_dagster.judging.verdicts import DECIDED, FAILED, verdict_of
from rlaif_dagster.spec.constitution import Constitution

COLUMNS = ["pair_id", "prompt_id", "a_id", "b_id", "p_a", "order_consistent", "verdicts", "failed"]
_KEYS = ["pair_id", "prompt_id", "a_id", "b_id"]
_EVEN = 1e-9  # of |2 p - 1|: what averaging leaves of an exact tie


def preferences(judgments: pd.DataFrame, constitution: Constitution) -> pd.DataFrame:
    """One row a pair: pair_id, prompt_id, a_id, b_id, p_a (missing where every verdict failed), order_consistent
    (missing where not both orders were asked), verdicts and failed (how many there are, how many of them failed).

    A pair is order-consistent when the preference drawn from either order alone is the same; one that has no verdict
    in an order is not. Principles that the constitution no longer has are not counted.
    """
    weights = {principle.id: principle.weight for principle in constitution.principles}
    known = judgments[judgments["principle_id"].isin(list(weights))]
    if known.empty:
        return pd.DataFrame(columns=COLUMNS).astype({"p_a": "float64", "order_consistent": "object"})
    known = known.assign(
        weight=known["principle_id"].map(weights), p_a=known["p_a"].where(known["verdict"].isin(DECIDED)).astype(float)
    )
    out = known.groupby(_KEYS, sort=False, as_index=False).agg(
        verdicts=("verdict", "size"), failed=("verdict", lambda kinds: int(kinds.isin(FAILED).sum()))
    )
    out["p_a"] = out["pair_id"].map(_weighted(known))
    out["order_consistent"] = out["pair_id"].map(_consistent(known)).astype("object")
    return out[COLUMNS]


def with_ties(judgments: pd.DataFrame, tie_margin: float) -> pd.DataFrame:
    """The same judgments with a tie wherever `|2 p_a - 1|` is at most `tie_margin`; `p_a` stays as it was."""
    decided = judgments["verdict"].isin(DECIDED)
    verdicts = [
        verdict_of(p_a, tie_margin) if is_decided else verdict
        for verdict, p_a, is_decided in zip(judgments["verdict"], judgments["p_a"], decided, strict=True)
    ]
    return judgments.assign(verdict=verdicts)


def _weighted(known: pd.DataFrame) -> dict[str, float]:
    """p(a) by pair: the mean over orders first, then the weighted mean over principles."""
    decided = known.dropna(subset="p_a")
    each = decided.groupby(["pair_id", "principle_id"], as_index=False).agg(
        p_a=("p_a", "mean"), weight=("weight", "first")
    )
    each["share"] = each["p_a"] * each["weight"]
    sums = each.groupby("pair_id")[["share", "weight"]].sum()
    return dict(zip(sums.index, sums["share"] / sums["weight"], strict=True))


def _consistent(known: pd.DataFrame) -> dict[str, bool]:
    """Whether both orders agree, for the pairs that were asked in both."""
    first, second = (_weighted(known[known["order"] == order]) for order in ("ab", "ba"))
    asked = known.groupby("pair_id")["order"].agg(set)
    return {
        pair_id: pair_id in first
        and pair_id in second
        and verdict_of(first[pair_id], _EVEN) == verdict_of(second[pair_id], _EVEN)
        for pair_id, orders in asked.items()
        if {"ab", "ba"} <= orders
    }
