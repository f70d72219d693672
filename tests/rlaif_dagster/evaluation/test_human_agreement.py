"""Agreement of judge and people, worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.evaluation.human_agreement import agreement_with_people
from rlaif_dagster.statistics import wilson


def table(rows: list[tuple[str, str, str, float | None, float | None]]) -> pd.DataFrame:
    columns = ["grader", "prompt_id", "arm", "alignment_grade", "correctness_grade"]
    return pd.DataFrame(rows, columns=columns).astype({"alignment_grade": float, "correctness_grade": float})


ROWS: list[tuple[str, str, str, float | None, float | None]] = [
    ("judge", "p", "base", 0.2, 1.0), ("judge", "p", "dpo", 0.8, None), ("judge", "p", "ppo", 0.8, None),
    ("judge", "q", "base", 0.6, None), ("judge", "q", "dpo", 0.4, None), ("judge", "r", "dpo", 0.9, None),
    ("Ada", "p", "base", 0.0, 1.0), ("Ada", "p", "dpo", 1.0, None), ("Ada", "p", "ppo", 0.5, None),
    ("Bob", "p", "ppo", 0.3, None), ("Ada", "q", "base", 0.0, None), ("Ada", "q", "dpo", 1.0, None),
]  # fmt: skip


def test_by_hand() -> None:
    """Ada and Bob's grades of ppo are averaged to 0.4. People tell apart all three pairs of p and the one of q: the judge
    agrees on base-dpo and base-ppo, ties dpo-ppo, and is wrong on q: 2.5 of 4."""
    found = agreement_with_people(table(ROWS)).set_index("kind")
    row = found.loc["alignment"]
    assert (row["judge"], row["people"], row["answers"], row["preferences"]) == ("judge", 2, 5, 4)
    assert row["accuracy"] == 2.5 / 4
    assert (row["ci_low"], row["ci_high"]) == wilson(2.5, 4)
    assert row["mean_difference"] == pytest.approx((0.2 + 0.2 + 0.4 + 0.6 + 0.6) / 5)
    # good by the judge: p dpo, p ppo, q base; by people: p dpo, q dpo; both agree on p base and p dpo
    chance = 3 / 5 * 2 / 5 + 2 / 5 * 3 / 5
    assert row["kappa"] == pytest.approx((2 / 5 - chance) / (1 - chance))
    assert (found.loc["correctness", "answers"], found.loc["correctness", "preferences"]) == (1, 0)
    assert pd.isna(found.loc["correctness", "accuracy"])


def test_nobody_graded() -> None:
    assert agreement_with_people(table(ROWS[:6])).empty
    assert agreement_with_people(table([])).empty
