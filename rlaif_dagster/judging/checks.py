"""Guards between judging and training: no GPU hour is spent on verdicts that are not there."""

from __future__ import annotations

import pandas as pd

from rlaif_dagster.judging.verdicts import DECIDED, FAILED
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.training.trained import Check


def verdict_checks(judgments: pd.DataFrame, recipe: Judging) -> tuple[Check, ...]:
    """The check `verdicts`: fails when more than the recipe's share of verdicts failed (refused, unparseable, error), or
    when there are none. Its message counts them by kind, gives the most frequent error's reason, and says how often the
    order decided."""
    if judgments.empty:
        return (Check("verdicts", False, "nothing was judged: no prompt has two different answers"),)
    counts = judgments["verdict"].value_counts()
    failed = int(sum(counts.get(kind, 0) for kind in FAILED))
    share = failed / len(judgments)
    parts = [f"{failed} of {len(judgments)} verdicts failed ({share:.1%}, allowed {recipe.max_failed_share:.1%})"]
    if failed:
        parts.append(", ".join(f"{counts[kind]} {kind}" for kind in FAILED if kind in counts))
    if "error" in counts:
        parts.append(f"most often: {judgments.loc[judgments['verdict'] == 'error', 'raw'].mode()[0]}")
    both, same = order_agreement(judgments)
    if both:
        parts.append(f"the order changed {both - same} of {both} verdicts ({1 - same / both:.1%})")
    return (Check("verdicts", share <= recipe.max_failed_share, "; ".join(parts)),)


def pair_checks(pairs: pd.DataFrame) -> tuple[Check, ...]:
    """The check `pairs`: fails when no pair is left to train on."""
    counts = pairs["split"].value_counts()
    train, held_out = int(counts.get("train", 0)), int(counts.get("held_out", 0))
    message = f"{train} pairs to train on, {held_out} held out"
    if train:
        return (Check("pairs", True, f"{message}; median margin {pairs['margin'].median():.2f}"),)
    remedy = "lower pairs.min_margin in data/recipes/judging.yaml, or add prompts or samples"
    return (Check("pairs", False, f"{message}: {remedy}"),)


def order_agreement(judgments: pd.DataFrame) -> tuple[int, int]:
    """(pairs and principles with a verdict in both orders, those among them with the same verdict in both)."""
    compared = judgments[judgments["verdict"].isin(DECIDED) & judgments["order"].isin(["ab", "ba"])]
    verdicts = compared.groupby(["pair_id", "principle_id"])["verdict"].agg(["nunique", "size"])
    both = verdicts[verdicts["size"] == 2]
    return len(both), int((both["nunique"] == 1).sum())
