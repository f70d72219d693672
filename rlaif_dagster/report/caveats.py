"""What a careful reader should know before believing the verdict: checks that the numbers themselves can answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from rlaif_dagster.report.arms import POLICIES, label
from rlaif_dagster.report.estimate import joined, percent
from rlaif_dagster.report.evidence import Evidence, table
from rlaif_dagster.report.sections import FAILED, whole_files

FAILED_SHARE = 0.05  # of verdicts, from which a reader is told
SATURATED = 0.95  # adherence of SFT from which little is left for DPO and PPO to add


def caveats(evidence: Evidence, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """One sentence each, the ones that weigh most first; none where nothing is wrong."""
    return [
        *_uninformative_suites(evidence),
        *_saturated(evidence),
        *_length(evidence),
        *_judge(table(tables, "judge_agreement")),
        *_failed_verdicts(table(tables, "judgments")),
        *_seeds(evidence),
        *_mini(evidence),
    ]


def _uninformative_suites(evidence: Evidence) -> Iterable[str]:
    names = [
        f"{suite.name} ({suite.estimates['base'].share}, guessing gives {percent(suite.chance)})"
        for suite in evidence.suites
        if suite.kind == "capability" and suite.chance is not None and "base" in suite.estimates
        if suite.estimates["base"].low <= suite.chance
    ]
    if names:
        yield f"Base is not clearly above guessing on {joined(names)}, so a loss could hardly show there."


def _saturated(evidence: Evidence) -> Iterable[str]:
    for measure in evidence.adherence[:1]:
        if "sft" in measure.estimates and measure.estimates["sft"].value >= SATURATED:
            yield f"SFT alone reaches {measure.estimates['sft'].share} {measure.name}: little is left for DPO and PPO to add."


def _length(evidence: Evidence) -> Iterable[str]:
    for arm in POLICIES:
        wins = evidence.wins.get((arm, "base"))
        if wins and wins.length_controlled is not None and wins.rate.sign(0.5) > 0 and wins.length_controlled <= 0.5:
            yield (
                f"{label(arm)} wins {wins.rate.share} against base, but only {percent(wins.length_controlled)} at equal "
                "length: the judge may be rewarding length."
            )


def _judge(agreement: pd.DataFrame) -> Iterable[str]:
    for row in whole_files(agreement).to_dict("records"):
        longest = 0.5 if pd.isna(row["longest_baseline"]) else max(0.5, row["longest_baseline"])
        if row["ci_low"] <= longest:
            yield (
                f"On {row['dataset']} ({int(row['n'])} pairs) the judge agrees with the labels on {percent(row['accuracy'])}, "
                f"which is not clearly above {percent(longest)}, what a coin or always choosing the longer answer gets."
            )


def _failed_verdicts(judgments: pd.DataFrame) -> Iterable[str]:
    if len(judgments) and (share := float(judgments["verdict"].isin(FAILED).mean())) > FAILED_SHARE:
        yield f"The judge gave no usable verdict in {percent(share)} of {len(judgments):,} cases."


def _seeds(evidence: Evidence) -> Iterable[str]:
    single = [label(arm) for arm in POLICIES if evidence.seeds.get(arm) == 1]
    if single:
        yield (
            f"{joined(single)} {'were' if len(single) > 1 else 'was'} trained with one seed: the intervals cover the choice "
            "of questions, not the luck of a training run."
        )


def _mini(evidence: Evidence) -> Iterable[str]:
    if any(" mini" in suite.name for suite in evidence.suites):
        yield "Suites called mini are small sets written for this project; their numbers cannot be set beside published ones."
