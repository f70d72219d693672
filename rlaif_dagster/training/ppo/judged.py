"""The judge itself as the reward: direct RLAIF (arXiv 2309.00267, section 2.2.2), without a reward model in between.

A judge compares, PPO needs a number. So every answer is compared with a fixed one, what the start policy says greedily to the
same prompt, and its score is by how much it beats that:

    a judge that compares     2 p - 1, p the probability that the answer is preferred, in [-1, 1]
    the likelihood judge      its score of the answer less its score of the fixed one; the probability would be saturated

averaged over orders and weighted over principles exactly as preference pairs are. Zero means "as good as where training
started", which takes what differs from prompt to prompt out of the score.

Verdicts come through the judge's own cache, so a resumed training pays for nothing twice; of several processes the first alone
asks. A likelihood judge that reads with the very model that is trained reads on PPO's own backbone, its adapters off: no second
copy of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.aggregate import preferences
from rlaif_dagster.judging.judgments import orders_of
from rlaif_dagster.judging.likelihood import LikelihoodJudge
from rlaif_dagster.judging.panel import committed_for
from rlaif_dagster.judging.verdicts import FAILED, Judge, Pair, make_pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.training.ppo.backbone import Backbone, acting_as
from rlaif_dagster.training.ppo.prompts import Prompts
from rlaif_dagster.training.ppo.rollout import roll_out
from rlaif_dagster.training.ppo.share import ALONE, Share
from rlaif_dagster.work import Chunks


@dataclass(frozen=True)
class DirectJudge:
    """A judge, what it judges by, and how it is asked."""

    judge: Judge
    constitution: Constitution
    recipe: Judging


class JudgeSource:
    """Scores answers by how much the judge prefers them to the start policy's."""

    def __init__(
        self, backbone: Backbone, direct: DirectJudge, references: Mapping[str, str], share: Share = ALONE
    ) -> None:
        """`references` holds the fixed answer to every prompt that will come."""
        self.backbone, self.direct, self.references, self.share = backbone, direct, references, share
        self.committed_before = committed_for(direct.judge)
        self.told: dict[str, float] = {}

    def score(self, prompts: Sequence[str], answers: Sequence[str], token_ids: Sequence[Sequence[int]]) -> Tensor:
        """One score an answer; 0 for one that equals the fixed answer (it is not asked about) and for one without any verdict,
        of which there may be as many as the judging recipe allows. Raises UserError when there are more, and when the
        budget is spent; both leave the last checkpoint to go on from."""
        pairs = [self._pair(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        asked = {pair.pair_id: pair for pair, _ in pairs if pair.a.strip() != pair.b.strip()}
        found: Mapping[str, float] = {}
        failed = 0.0
        if asked:
            verdicts = self.share.in_first(lambda: self._judge(list(asked.values())))
            failed = float(verdicts["verdict"].isin(FAILED).mean())
            self._require_verdicts(failed)
            found = advantages_of_a(verdicts, self.direct.constitution)
        self.told = {"judge_failed": failed}
        return torch.tensor([side * found.get(pair.pair_id, 0.0) for pair, side in pairs], dtype=torch.float32)

    def _pair(self, prompt: str, answer: str) -> tuple[Pair, int]:
        """The pair of an answer and the fixed one, and 1 where the answer is its `a`, else -1."""
        reference = self.references[prompt]
        sides = [(content_hash(prompt, text), text) for text in (answer, reference)]
        pair = make_pair(content_hash(prompt), prompt, sides[0], sides[1])
        return pair, 1 if pair.a_id == sides[0][0] else -1

    def _judge(self, pairs: Sequence[Pair]) -> pd.DataFrame:
        recipe = self.direct.recipe
        committed = committed_for(self.direct.judge) - self.committed_before
        budget = None if recipe.budget_usd is None else max(0.0, recipe.budget_usd - committed)
        with self._reading() as judge:
            return judge.judge(pairs, self.direct.constitution, orders_of(recipe), mode=recipe.mode, budget_usd=budget)

    @contextmanager
    def _reading(self) -> Iterator[Judge]:
        """The judge, reading on the backbone where it would load the same model."""
        judge, lm = self.direct.judge, self.backbone.lm
        if not isinstance(judge, LikelihoodJudge) or judge.model != lm.spec or not self.backbone.holds_base:
            yield judge
            return
        with self.backbone.as_plain_model() as plain:
            yield replace(judge, lm=plain)

    def _require_verdicts(self, failed: float) -> None:
        allowed = self.direct.recipe.max_failed_share
        if failed > allowed:
            raise UserError(
                f"judge {self.direct.judge.name}: {failed:.0%} of PPO's questions got no verdict, at most {allowed:.0%} allowed; "
                "see max_failed_share in data/recipes/judging.yaml, and run again to go on from the last checkpoint"
            )


def advantages_of_a(verdicts: pd.DataFrame, constitution: Constitution) -> dict[str, float]:
    """By pair, how much better `a` is than `b`: the difference of the judge's scores where it scores answers one by one
    (weighted over principles), else 2 p - 1 of the aggregated preference. Pairs without a verdict are missing."""
    measured = [_difference(raw) for raw in verdicts["raw"]] if (verdicts["order"] == "none").all() else [None]
    if all(value is not None for value in measured):
        weights = {principle.id: principle.weight for principle in constitution.principles}
        rows = verdicts.assign(value=measured, weight=verdicts["principle_id"].map(weights))
        rows["share"] = rows["value"] * rows["weight"]
        sums = rows.groupby("pair_id")[["share", "weight"]].sum()
        return dict(zip(sums.index, sums["share"] / sums["weight"], strict=True))
    preferred = preferences(verdicts, constitution).dropna(subset="p_a")
    return dict(zip(preferred["pair_id"], 2 * preferred["p_a"].astype(float) - 1, strict=True))


def _difference(raw: str) -> float | None:
    """score_a - score_b of a judge that tells them; None for one that does not."""
    try:
        said = json.loads(raw)
        return float(said["score_a"]) - float(said["score_b"])
    except (ValueError, TypeError, KeyError):
        return None


def reference_answers(
    backbone: Backbone, prompts: Prompts, *, batch: int, max_new_tokens: int, work: Path, share: Share = ALONE
) -> dict[str, str]:
    """What the start policy says greedily to each prompt, by the prompt's text; finished batches are kept under `work`."""
    chunks = Chunks(work / "reference_answers")
    out: dict[str, str] = {}
    for start in range(0, len(prompts.texts), batch):
        texts, ids = prompts.texts[start : start + batch], prompts.ids[start : start + batch]

        key = content_hash("reference answers", ids, max_new_tokens)
        found = share.in_first(partial(chunks.get, key))
        if found is None:
            with acting_as(backbone, "reference"):
                own = roll_out(
                    backbone, share.of(texts), share.of(ids), max_new_tokens=max_new_tokens, temperature=1.0, draws=None
                )
            found = share.gathered(own.texts)
            share.in_first(partial(chunks.put, key, found))
        out |= dict(zip(texts, found, strict=True))
    return out
