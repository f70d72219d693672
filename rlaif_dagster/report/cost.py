"""What the study cost: time by stage, judge calls, tokens and money, as far as the tables know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.report.evidence import table
from rlaif_dagster.report.sections import duration, money, newest

STAGES = {
    "Prompts and answers": ("prompts", "completions", "revisions"),
    "Judging the pairs": ("judgments", "preference_pairs", "judge_agreement"),
    "SFT": ("sft_model",),
    "Reward model": ("reward_model",),
    "DPO": ("dpo_model",),
    "PPO": ("ppo_model",),
    "Benchmarks": ("base_benchmarks", "sft_benchmarks", "dpo_benchmarks", "ppo_benchmarks"),
    "Responses": ("base_responses", "sft_responses", "dpo_responses", "ppo_responses"),
    "Judging the arms": ("adherence", "head_to_head", "qualitative"),
}


@dataclass(frozen=True)
class Stage:
    """One stage's time (its share of all, for a bar) and price."""

    name: str
    duration: str
    share: float
    cost: str


@dataclass(frozen=True)
class Cost:
    """The bill: stages with their total, and sentences about what the money and the tokens went to."""

    stages: tuple[Stage, ...]
    total: str
    total_cost: str
    notes: tuple[str, ...]


def cost(tables: Mapping[str, pd.DataFrame]) -> Cost | None:
    """The bill of the latest materializations; None when none was recorded."""
    lineage = newest(table(tables, "lineage"))
    if lineage.empty:
        return None
    seconds = lineage.groupby("asset")["seconds"].sum(min_count=1)
    dollars = lineage.groupby("asset")["cost_usd"].sum(min_count=1)
    total = float(lineage["seconds"].fillna(0).sum())
    stages = []
    for name, assets in STAGES.items():
        own = [asset for asset in assets if asset in seconds.index]
        if own:
            spent = float(seconds[own].fillna(0).sum())
            paid = float(dollars[own].fillna(0).sum())
            stages.append(Stage(name, duration(spent), spent / total if total else 0.0, money(paid)))
    bill = money(float(lineage["cost_usd"].fillna(0).sum()))
    return Cost(tuple(stages), duration(total), bill, (*_judge(tables), *_training(tables)))


def _judge(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    judgments = table(tables, "judgments")
    if judgments.empty:
        return []
    read, written = (int(judgments[column].fillna(0).sum()) for column in ("tokens_in", "tokens_out"))
    price = float(judgments["cost_usd"].fillna(0).sum())
    text = (
        f"The training pairs took {len(judgments):,} verdicts: {read:,} tokens read, {written:,} written, "
        f"{money(price)} at the price when they were asked"
    )
    if price:
        text += f", which is {money(1000 * price / len(judgments))} a thousand"
    return [text + "."]


def _training(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    models = table(tables, "models")
    memory = models["peak_memory_bytes"].dropna().astype(float)
    if models.empty or memory.empty:
        return []
    tokens = int(models["tokens"].fillna(0).sum())
    return [f"Training went through {tokens:,} tokens and needed at most {memory.max() / 1e9:.1f} GB of memory."]
