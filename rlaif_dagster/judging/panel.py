"""Several judges for one verdict: each is asked by itself, and the probabilities are averaged by weight.

A panel of judges from different families agrees better with people than one large judge and is less partial to its own
kind (arXiv 2404.18796). A member without a verdict is left out; the panel fails only where all members did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.ledger import committed_usd
from rlaif_dagster.judging.questions import judged_by
from rlaif_dagster.judging.verdicts import (
    FAILED,
    Judge,
    Judgment,
    Mode,
    Order,
    Pair,
    Verdict,
    judgments_frame,
    verdict_of,
)
from rlaif_dagster.spec.constitution import Constitution

WORST_FIRST: tuple[Verdict, ...] = ("error", "unparseable", "refused")


@dataclass(frozen=True)
class PanelJudge:
    """Judges with their weights."""

    name: str
    members: tuple[tuple[Judge, float], ...]

    @property
    def template_version(self) -> str:
        return content_hash("panel", [[member.name, member.template_version] for member, _ in self.members])

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
        """The table judgments; `raw` is JSON of the members' verdicts and probabilities.

        A member that scores answers one by one votes in both orders alike; where all members do, so does the panel. Members
        are asked one after the other and share the budget, of which what this run pays, or may be billed for, is taken.
        """
        votes = []
        for member, _ in self.members:
            before = committed_for(member)
            own = member.judge(
                pairs,
                constitution,
                orders,
                mode=mode,
                budget_usd=budget_usd,
                progress=f"{progress}: {member.name}" if progress else None,
            )
            votes.append({(row.pair_id, row.principle_id, row.order): row for row in _rows(own)})
            if budget_usd is not None:
                budget_usd = max(0.0, budget_usd - (committed_for(member) - before))

        seen: Sequence[Order] = orders if any(order != "none" for own in votes for *_, order in own) else ("none",)
        judgments = [
            self._verdict(pair, principle.id, order, counted=order == seen[0], votes=votes)
            for pair in pairs
            for principle in judged_by(pair, constitution, mode)
            for order in seen
        ]
        return judgments_frame(judgments)

    def _verdict(
        self,
        pair: Pair,
        principle_id: str,
        order: Order,
        *,
        counted: bool,
        votes: Sequence[dict[tuple[str, str, Order], Judgment]],
    ) -> Judgment:
        """The members' rows as one. What a member without orders took is counted in the first order alone (`counted`)."""
        place = (pair.pair_id, principle_id)
        rows = [own.get((*place, order)) or own[(*place, "none")] for own in votes]
        paid = [row for row in rows if counted or row.order == order]
        weights = [weight for _, weight in self.members]
        valid = [(row.p_a, weight) for row, weight in zip(rows, weights, strict=True) if row.p_a is not None]
        p_a = sum(p * weight for p, weight in valid) / sum(weight for _, weight in valid) if valid else None
        failed = [kind for kind in WORST_FIRST if any(row.verdict == kind for row in rows)]
        return Judgment(
            pair.pair_id,
            pair.prompt_id,
            pair.a_id,
            pair.b_id,
            principle_id,
            order,
            verdict=failed[0] if p_a is None else verdict_of(p_a),
            p_a=p_a,
            raw=json.dumps({row.judge: {"verdict": row.verdict, "p_a": row.p_a} for row in rows}),
            judge=self.name,
            template_version=self.template_version,
            tokens_in=sum(row.tokens_in for row in paid),
            tokens_out=sum(row.tokens_out for row in paid),
            cost_usd=sum(row.cost_usd for row in paid),
            latency_ms=max((row.latency_ms for row in paid), default=0.0),
            cached=all(row.cached for row in rows),
        )


def committed_for(judge: Judge) -> float:
    """What a budget of this judge is held against, US dollars: all that this process paid judges or may have been billed
    for; 0 for a judge that asks nobody."""
    members = [member for member, _ in judge.members] if isinstance(judge, PanelJudge) else [judge]
    return max((committed_usd(member.home) for member in members if isinstance(member, ApiJudge)), default=0.0)


def _rows(frame: pd.DataFrame) -> list[Judgment]:
    """A frame of judgments as values; missing probabilities as None."""
    records = frame.to_dict("records")
    return [Judgment(**{**record, "p_a": None if record["verdict"] in FAILED else record["p_a"]}) for record in records]
