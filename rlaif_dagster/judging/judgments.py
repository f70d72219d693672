"""The candidates of every prompt before the judge: each pair of different answers, once."""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from rlaif_dagster.judging.aggregate import with_ties
from rlaif_dagster.judging.verdicts import Judge, Order, Pair, make_pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging


def candidate_pairs(prompts: pd.DataFrame, candidates: pd.DataFrame) -> list[Pair]:
    """All pairs of different answers to the same prompt, in the order of their ids.

    `prompts` has prompt_id and text; `candidates` (completions and revisions together) has completion_id, prompt_id and text.
    Answers to prompts that are not among `prompts` are left out, and so are answers without a word.
    """
    questions = dict(zip(prompts["prompt_id"], prompts["text"], strict=True))
    spoken = candidates[candidates["text"].str.strip() != ""].drop_duplicates("completion_id")
    own = spoken[spoken["prompt_id"].isin(list(questions))].sort_values(["prompt_id", "completion_id"])
    pairs = []
    for prompt_id, rows in own.groupby("prompt_id", sort=True):
        answers = list(zip(rows["completion_id"], rows["text"], strict=True))
        for first, second in combinations(answers, 2):
            if first[1].strip() != second[1].strip():
                pairs.append(make_pair(str(prompt_id), questions[prompt_id], first, second))
    return pairs


def orders_of(recipe: Judging) -> tuple[Order, ...]:
    """In which orders a comparing judge is asked."""
    return ("ab", "ba") if recipe.orders == "both" else ("ab",)


def judge_candidates(
    prompts: pd.DataFrame, candidates: pd.DataFrame, constitution: Constitution, recipe: Judging, judge: Judge
) -> pd.DataFrame:
    """The table judgments, without its keys, of all candidate pairs; verdicts within the recipe's tie margin are ties.

    Raises UserError when the judge's budget is spent.
    """
    pairs = candidate_pairs(prompts, candidates)
    verdicts = judge.judge(
        pairs,
        constitution,
        orders_of(recipe),
        mode=recipe.mode,
        budget_usd=recipe.budget_usd,
        progress=f"{judge.name}: candidates",
    )
    return with_ties(verdicts, recipe.tie_margin)
