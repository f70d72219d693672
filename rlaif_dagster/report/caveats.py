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
        *_different_items(evidence),
        *_uninformative_suites(evidence),
        *_saturated(evidence),
        *_length(evidence),
        *_judge(table(tables, "judge_agreement")),
        *_failed_verdicts(table(tables, "judgments")),
        *_same_judge(evidence),
        *_seeds(evidence),
        *_many_looks(evidence),
        *_mini(evidence),
    ]


def _different_items(evidence: Evidence) -> Iterable[str]:
    """Arms that were measured before and after the items changed."""
    for measure in (*evidence.adherence, *evidence.headlines):
        shared = min((difference.n for difference in measure.differences.values()), default=measure.items)
        if shared < measure.items:
            yield (
                f"The arms did not answer the same items of {measure.name}: only {shared:,} of {measure.items:,} are shared, and "
                "differences are over those. `rlaif plan` says what to make again."
            )


def _same_judge(evidence: Evidence) -> Iterable[str]:
    if evidence.wins:
        yield (
            "The judge of the head-to-head also chose the training pairs. Its wins show that a policy learned what that judge "
            "prefers; whether people would agree is for people to say."
        )


def _many_looks(evidence: Evidence) -> Iterable[str]:
    """How likely a difference against base is to stand out on some suite although nothing changed."""
    found = [
        s.differences[arm, "base"] for s in evidence.headlines for arm in POLICIES if (arm, "base") in s.differences
    ]
    if len(found) > 2 and any(difference.sign() for difference in found):
        chance = 1 - 0.95 ** len(found)
        yield (
            f"{len(found)} differences against base were looked at on the suites, each at 95%: if nothing had changed at all, the "
            f"chance that some interval excludes zero would still be up to {percent(chance)}."
        )


def _uninformative_suites(evidence: Evidence) -> Iterable[str]:
    names = [
        f"{suite.name} ({suite.estimates['base'].share}, guessing gives {percent(suite.chance)})"
        for suite in evidence.headlines
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
    first, second = POLICIES
    for arm, other in ((first, second), (second, first)):
        wins = evidence.wins.get((arm, other))
        if wins and wins.length_controlled is not None and wins.rate.value >= 0.55 and wins.length_controlled <= 0.45:
            yield (
                f"The judge preferred {label(arm)} to {label(other)} on {wins.rate.share} of prompts, but on "
                f"{percent(wins.length_controlled)} at equal length: the preference may be for a length."
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
    if any(" mini" in suite.name for suite in evidence.headlines):
        yield "Suites called mini are small sets written for this project; their numbers cannot be set beside published ones."
