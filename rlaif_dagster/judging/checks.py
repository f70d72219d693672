"""Guards between judging and training: no GPU hour is spent on verdicts that are not there."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd

from rlaif_dagster.judging.agreement import WHOLE
from rlaif_dagster.judging.verdicts import DECIDED, FAILED
from rlaif_dagster.spec.recipes import Judging, Trust
from rlaif_dagster.training.trained import Check

ROUNDING = 1e-9  # of a share's distance from one half


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


def trust_check(agreement: pd.DataFrame, recipe: Judging) -> Check:
    """The check `trust` on the table judge_agreement: passes where nothing is asked for, and where every file of labels
    reaches what the recipe asks. The message holds each file's numbers, whether or not they are asked for."""
    whole = agreement[agreement["slice"] == WHOLE]
    asked = recipe.trust.asked
    if whole.empty:
        remedy = "; give labels for it in data/labels, or take the thresholds out of data/recipes/judging.yaml"
        return Check("trust", not asked, "no labelled pairs speak for this constitution" + (remedy if asked else ""))
    told, missed = [], []
    for row in whole.to_dict("records"):
        accuracy = f"accuracy {row['accuracy']:.0%} ({row['ci_low']:.0%} to {row['ci_high']:.0%})"
        told.append(f"{row['dataset']} ({row['n']} pairs): {accuracy}, the longer answer {row['longest_baseline']:.0%}")
        missed += [f"{row['dataset']}: {text}" for text in _missed(row, recipe.trust)]
    if not missed:
        return Check(
            "trust", True, "; ".join(told) + ("" if asked else "; no threshold is set (trust in judging.yaml)")
        )
    remedy = "choose another judge, or lower trust in data/recipes/judging.yaml"
    return Check("trust", False, "; ".join([*missed, *told, remedy]))


def _missed(row: dict[Hashable, Any], trust: Trust) -> list[str]:
    """What one file's numbers fall short of."""
    accuracy, kappa = row["accuracy"], row["kappa"]
    consistency, first = row["order_consistency"], row["first_position"]
    out = []
    if trust.min_accuracy is not None and accuracy < trust.min_accuracy:
        out.append(f"accuracy {accuracy:.3f} is below min_accuracy {trust.min_accuracy:g}")
    if trust.min_kappa is not None and not (pd.notna(kappa) and kappa >= trust.min_kappa):
        shown = f"{kappa:.3f}" if pd.notna(kappa) else "unknown"
        out.append(f"kappa {shown} is below min_kappa {trust.min_kappa:g}")
    if trust.beat_longest and row["ci_low"] <= row["longest_baseline"]:
        out.append(
            f"accuracy {accuracy:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f}) is not clearly above the longer "
            f"answer's {row['longest_baseline']:.3f} (beat_longest)"
        )
    if trust.min_order_consistency is not None and pd.notna(consistency) and consistency < trust.min_order_consistency:
        out.append(
            f"order consistency {consistency:.3f} is below min_order_consistency {trust.min_order_consistency:g}"
        )
    if (
        trust.max_position_bias is not None
        and pd.notna(first)
        and abs(first - 0.5) > trust.max_position_bias + ROUNDING
    ):
        out.append(
            f"the first place wins {first:.3f}, more than {trust.max_position_bias:g} (max_position_bias) off one half"
        )
    return out


def order_agreement(judgments: pd.DataFrame) -> tuple[int, int]:
    """(pairs and principles with a verdict in both orders, those among them with the same verdict in both)."""
    compared = judgments[judgments["verdict"].isin(DECIDED) & judgments["order"].isin(["ab", "ba"])]
    verdicts = compared.groupby(["pair_id", "principle_id"])["verdict"].agg(["nunique", "size"])
    both = verdicts[verdicts["size"] == 2]
    return len(both), int((both["nunique"] == 1).sum())
