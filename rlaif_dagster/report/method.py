"""How the numbers came about, for a reader who was not there: the study's steps with the counts of this cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from rlaif_dagster.report.arms import ARMS, label
from rlaif_dagster.report.estimate import joined, percent
from rlaif_dagster.report.evidence import Evidence, table
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.model import ModelSpec

SPLITS = {"train": "for training", "eval": "held out for measuring", "qualitative": "to be read by people"}


@dataclass(frozen=True)
class Stage:
    """One step of the study in a sentence or two."""

    name: str
    text: str


def method(
    evidence: Evidence,
    tables: Mapping[str, pd.DataFrame],
    constitution: Constitution,
    model: str,
    model_spec: ModelSpec,
) -> list[Stage]:
    """The steps that the tables have anything to say about, in the order in which they were taken."""
    found = [
        Stage("Base model", f"{model}. {model_spec.description}".removesuffix(". ")),
        Stage("Constitution", _constitution(constitution)),
        Stage("Prompts", _prompts(table(tables, "prompts"))),
        Stage("Candidates", _candidates(tables)),
        Stage("Feedback", _feedback(tables)),
        Stage("Policies", _policies(tables)),
        Stage("Measuring", _measuring(evidence, tables)),
    ]
    return [stage for stage in found if stage.text]


def _constitution(constitution: Constitution) -> str:
    names = joined([principle.id for principle in constitution.principles])
    many = len(constitution.principles)
    text = f"{many} principle{'s' if many > 1 else ''}: {names}."
    return f"{text} Its format can be checked by a program." if constitution.format else text


def _prompts(prompts: pd.DataFrame) -> str:
    splits = prompts["split"].value_counts()
    counts = [f"{splits[split]} {name}" for split, name in SPLITS.items() if split in splits.index]
    return f"{joined(counts)}; no prompt is in two of these." if counts else ""


def _candidates(tables: Mapping[str, pd.DataFrame]) -> str:
    own, revised = len(table(tables, "completions")), len(table(tables, "revisions"))
    if not own and not revised:
        return ""
    return f"The base model gave {own:,} answers of its own and {revised:,} more with the constitution before it."


def _feedback(tables: Mapping[str, pd.DataFrame]) -> str:
    judgments, pairs = table(tables, "judgments"), table(tables, "preference_pairs")
    judges = sorted({str(name) for name in judgments["judge"].dropna()})
    if not judges:
        return ""
    text = (
        f"The judge {joined(judges)} compared {judgments['pair_id'].nunique():,} pairs of answers under each principle"
    )
    orders = set(judgments["order"].dropna())
    text += ", in both orders" if {"ab", "ba"} <= orders else ""
    if pairs.empty:
        return f"{text}."
    held_out = int((pairs["split"] == "held_out").sum())
    return f"{text}; {len(pairs):,} became preference pairs, {held_out:,} of which were held out of training."


def _policies(tables: Mapping[str, pd.DataFrame]) -> str:
    models, metrics = table(tables, "models"), table(tables, "training_metrics")
    if models.empty:
        return ""
    parts = []
    for arm, what in (("sft", "imitates the preferred answers, as the control"), ("dpo", "learns from the pairs directly"),
                      ("ppo", f"maximizes {_reward(metrics)}")):  # fmt: skip
        rows = models[models["arm"] == arm]
        if rows.empty:
            continue
        details = [f"from {label(str(rows['start'].iloc[0]))}"]
        details += [f"{count:,} examples" for count in _recorded(metrics, arm, "examples")]
        details += [f"{count:,} updates" for count in _updates(metrics, arm)]
        if (seeds := rows["seed"].nunique()) > 1:
            details.append(f"{seeds} seeds")
        parts.append(f"{label(arm)} {what} ({', '.join(details)})")
    return f"Adapters on the base model: {'; '.join(parts)}."


def _reward(metrics: pd.DataFrame) -> str:
    """What PPO is paid by; its metrics have the judge's part, and both parts where there are two."""
    names = set(metrics.loc[metrics["arm"] == "ppo", "name"]) if len(metrics) else set()
    model = "a reward model trained on the pairs"
    if "judge_failed" not in names:
        return model
    return f"{model} together with the judge's own score" if "reward_model" in names else "the judge's own score"


def _recorded(metrics: pd.DataFrame, arm: str, name: str) -> list[int]:
    values = metrics.loc[(metrics["arm"] == arm) & (metrics["name"] == name), "value"].dropna()
    return [int(values.iloc[0])] if len(values) else []


def _updates(metrics: pd.DataFrame, arm: str) -> list[int]:
    steps = metrics.loc[metrics["arm"] == arm, "step"] if arm == "ppo" else pd.Series(dtype=int)
    return [int(steps.max())] if len(steps) else []


def _measuring(evidence: Evidence, tables: Mapping[str, pd.DataFrame]) -> str:
    parts = []
    if evidence.headlines:
        parts.append(f"the suites {joined([f'{suite.name} ({suite.items:,} items)' for suite in evidence.headlines])}")
    if evidence.adherence:
        parts.append(f"the format on {evidence.adherence[0].detail}")
    if evidence.wins:
        n = max(win.rate.n for win in evidence.wins.values())
        parts.append(f"the judge's choice between any two arms on {n:,} prompts")
    asked = table(tables, "qualitative")["prompt_id"].nunique()
    if asked:
        parts.append(f"grades on {asked} prompts")
    if not parts:
        return ""
    arms = joined([label(arm) for arm in ARMS])
    level = percent(0.95)
    return f"{arms} answer the same items: {joined(parts)}. Every interval is a {level} one; differences are paired item by item."
