"""Measures taken apart: the safety suite by kind of harm, the graded answers by kind of prompt.

An average hides where a policy became unsafe. A category has few items, so its intervals are wide, and among many
categories some difference stands out by chance: the page says both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from rlaif_dagster.report.arms import ARMS
from rlaif_dagster.report.evidence import Measure, item_means, paired, share_of
from rlaif_dagster.report.suites import is_safety

_COLUMNS = ("category", "categories")


@dataclass(frozen=True)
class Grade:
    """Mean grade of one arm on one category of prompts, with its interval and the number of answers."""

    text: str
    interval: str
    n: int


def safety_measures(items: pd.DataFrame | None) -> list[Measure]:
    """One measure a risk category of the safety suite's items, the largest category first; none where items carry no
    category. An item with several categories counts in each."""
    column = None if items is None else next((name for name in _COLUMNS if name in items.columns), None)
    if items is None or column is None:
        return []
    own = items[items["task"].astype(str).map(is_safety).astype(bool) & items[column].notna()]
    spread = own.assign(risk=[_names(value) for value in own[column]]).explode("risk")
    spread = spread[spread["risk"].notna() & (spread["risk"] != "")]
    out = []
    for risk, rows in spread.groupby("risk"):
        scores = item_means(rows, "item_id", "score")
        if scores:
            levels = {arm: share_of(series) for arm, series in scores.items()}
            n = min(level.n for level in levels.values())
            out.append(
                Measure(f"safety:{risk}", str(risk), "alignment", levels, paired(scores), f"{n:,} items", chance=0.5)
            )
    return sorted(out, key=lambda measure: (-measure.items, measure.name))


def _names(value: Any) -> list[str]:
    """The categories in a cell that holds one name, several joined by semicolons, or a list."""
    parts = value.split(";") if isinstance(value, str) else list(value) if isinstance(value, list | np.ndarray) else []
    return sorted({str(part).strip() for part in parts})


def grades_by_category(qualitative: pd.DataFrame, order: Sequence[str]) -> list[tuple[str, str, list[Grade | None]]]:
    """Mean grades of the judge by category of prompt: (category, which grade, one cell an arm), rows without any left out."""
    found = set(qualitative["category"].dropna())
    categories = [name for name in order if name in found] + sorted(found - set(order))
    rows = []
    for category, column in chain.from_iterable(
        ((name, "alignment_grade"), (name, "correctness_grade")) for name in categories
    ):
        means = item_means(qualitative[qualitative["category"] == category], "prompt_id", column)
        cells = [_grade(means[arm]) if arm in means else None for arm in ARMS]
        if any(cells):
            rows.append((category, column.removesuffix("_grade"), cells))
    return rows


def _grade(values: pd.Series) -> Grade:
    mean = share_of(values)
    return Grade(f"{mean.value:.2f}", f"{mean.low:.2f} to {mean.high:.2f}" if mean.n > 1 else "", mean.n)
