"""Agreement of judge and people, worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest

from rlaif_dagster.evaluation.human_agreement import agreement_with_people
from rlaif_dagster.report import people
from rlaif_dagster.statistics import wilson


def table(rows: Sequence[tuple[str, str, str, float | None, float | None]]) -> pd.DataFrame:
    columns = ["grader", "prompt_id", "arm", "alignment_grade", "correctness_grade"]
    return (
        pd.DataFrame(rows, columns=columns)
        .astype({"alignment_grade": float, "correctness_grade": float})
        .assign(seed=0)
    )


ROWS: list[tuple[str, str, str, float | None, float | None]] = [
    ("judge", "p", "base", 0.2, 1.0), ("judge", "p", "dpo", 0.8, None), ("judge", "p", "ppo", 0.8, None),
    ("judge", "q", "base", 0.6, None), ("judge", "q", "dpo", 0.4, None), ("judge", "r", "dpo", 0.9, None),
    ("Ada", "p", "base", 0.0, 1.0), ("Ada", "p", "dpo", 1.0, None), ("Ada", "p", "ppo", 0.5, None),
    ("Bob", "p", "ppo", 0.3, None), ("Ada", "q", "base", 0.0, None), ("Ada", "q", "dpo", 1.0, None),
]  # fmt: skip


def test_by_hand() -> None:
    """Ada and Bob's grades of ppo are averaged to 0.4. People tell apart all three pairs of p and the one of q: the judge
    agrees on base-dpo and base-ppo, ties dpo-ppo, and is wrong on q: 2.5 of 3 and 0 of 1."""
    found = agreement_with_people(table(ROWS)).set_index("kind")
    row = found.loc["alignment"]
    assert (row["judge"], row["people"], row["answers"], row["preferences"]) == ("judge", 2, 5, 4)
    assert row["accuracy"] == (2.5 / 3 + 0) / 2
    assert (row["ci_low"], row["ci_high"]) == (0, 2.5 / 3)  # two prompts: a sample may hold either one twice
    assert row["mean_difference"] == pytest.approx((0.2 + 0.2 + 0.4 + 0.6 + 0.6) / 5)
    # good by the judge: p dpo, p ppo, q base; by people: p dpo, q dpo; both agree on p base and p dpo
    chance = 3 / 5 * 2 / 5 + 2 / 5 * 3 / 5
    assert row["kappa"] == pytest.approx((2 / 5 - chance) / (1 - chance))
    assert (found.loc["correctness", "answers"], found.loc["correctness", "preferences"]) == (1, 0)
    assert pd.isna(found.loc["correctness", "accuracy"])


def test_the_pairs_of_one_prompt_are_no_evidence_of_their_own() -> None:
    """Four arms in six pairs, all put in the same order by both: one prompt, whatever its pairs."""
    arms = zip(("base", "sft", "dpo", "ppo"), (0.1, 0.3, 0.6, 0.9), strict=True)
    rows: list[tuple[str, str, str, float | None, float | None]] = [
        (grader, "p", arm, grade, None) for arm, grade in arms for grader in ("judge", "Ada")
    ]
    row = agreement_with_people(table(rows), judge="judge").iloc[0]
    assert (row["preferences"], row["accuracy"]) == (6, 1.0)
    assert (row["ci_low"], row["ci_high"]) == wilson(1, 1)


def test_the_report_tells_the_same_number() -> None:
    """A table of people and judge, read by the asset's metadata and by the report."""
    qualitative = table(ROWS).replace({"grader": {"Ada": "human:ada", "Bob": "human:bob"}})
    row = agreement_with_people(qualitative).iloc[0]
    told = people.agreement(qualitative)
    assert told is not None
    assert told.order is not None
    assert (told.order.value, told.order.low, told.order.high) == (row["accuracy"], row["ci_low"], row["ci_high"])
    assert told.pairs == row["preferences"]


def test_nobody_graded() -> None:
    assert agreement_with_people(table(ROWS[:6])).empty
    assert agreement_with_people(table([])).empty
