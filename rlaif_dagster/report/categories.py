"""Measures taken apart: the safety suite by kind of harm, the graded answers by kind of prompt.

An average hides where a policy became unsafe. A category has few items, so its intervals are wide, and among many
categories some difference stands out by chance: the page says both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import pandas as pd

from rlaif_dagster.report.arms import ARMS
from rlaif_dagster.report.estimate import Estimate
from rlaif_dagster.report.evidence import Measure, level, paired, scores_by_arm
from rlaif_dagster.report.suites import Suite, is_safety


@dataclass(frozen=True)
class Grade:
    """Mean grade of one arm on one category of prompts, with its interval and the number of answers."""

    text: str
    interval: str
    n: int


def safety_measures(suites: Sequence[Suite]) -> list[Measure]:
    """One measure a safety suite and risk category, the largest category first; none where items carry no category. An item
    with several categories counts in each."""
    out = []
    for suite in suites:
        if not suite.headline or not is_safety(suite.key.split(":")[0]):
            continue
        spread = suite.items.explode("categories").dropna(subset=["categories"])
        measures = [_of_category(suite, str(risk), rows) for risk, rows in spread.groupby("categories")]
        out += sorted(measures, key=lambda measure: (-measure.items, measure.name))
    return out


def _of_category(suite: Suite, risk: str, rows: pd.DataFrame) -> Measure:
    scores = scores_by_arm(rows, "item_id", "score")
    levels = {arm: level(each) for arm, each in scores.items()}
    n = min((one.n for one in levels.values()), default=0)
    detail = f"{suite.name}, {n:,} item{'s' if n != 1 else ''}"
    return Measure(f"safety:{suite.key}:{risk}", risk, "alignment", levels, paired(scores), detail, suite.chance)


def grades_by_category(qualitative: pd.DataFrame, order: Sequence[str]) -> list[tuple[str, str, list[Grade | None]]]:
    """Mean grades of the judge by category of prompt: (category, which grade, one cell an arm), rows without any left out."""
    found = set(qualitative["category"].dropna())
    categories = [name for name in order if name in found] + sorted(found - set(order))
    rows = []
    for category, column in chain.from_iterable(
        ((name, "alignment_grade"), (name, "correctness_grade")) for name in categories
    ):
        scores = scores_by_arm(qualitative[qualitative["category"] == category], "prompt_id", column)
        cells = [_grade(level(scores[arm])) if arm in scores else None for arm in ARMS]
        if any(cells):
            rows.append((category, column.removesuffix("_grade"), cells))
    return rows


def _grade(mean: Estimate) -> Grade:
    return Grade(f"{mean.value:.2f}", f"{mean.low:.2f} to {mean.high:.2f}" if mean.n > 1 else "", mean.n)
