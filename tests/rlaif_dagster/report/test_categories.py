from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.report.categories import grades_by_category, safety_measures


def items(**columns: object) -> pd.DataFrame:
    rows = [
        ("base", "a", True), ("base", "b", False), ("base", "c", True), ("dpo", "a", True), ("dpo", "b", True),
        ("dpo", "c", True),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["arm", "item_id", "score"]).assign(seed=0, task="pku_saferlhf_mini")
    return frame.assign(**columns)


def test_an_item_counts_in_each_of_its_categories() -> None:
    categories = [["Privacy"], ["Privacy", "Crime"], ["Crime"]] * 2
    crime, privacy = safety_measures(items(categories=categories))
    assert (crime.name, crime.items, crime.estimates["base"].value) == ("Crime", 2, 0.5)
    assert privacy.differences["dpo", "base"].value == 0.5
    assert crime.detail == "2 items"


def test_the_largest_category_comes_first_and_names_may_be_joined() -> None:
    found = safety_measures(items(category=["A; B", "B", "B"] * 2))
    assert [(one.name, one.items) for one in found] == [("B", 3), ("A", 1)]


def test_other_suites_and_items_without_category_are_left_out() -> None:
    assert safety_measures(items()) == []
    assert safety_measures(None) == []
    assert safety_measures(items(category=None)) == []
    assert safety_measures(items(category="Privacy").assign(task="mmlu_mini")) == []


def test_grades_by_category_keep_an_interval_when_all_are_equal() -> None:
    rows = [("dpo", "p", 0.2, 0.0), ("dpo", "q", 0.4, 0.0), ("ppo", "p", 0.3, 1.0)]
    frame = pd.DataFrame(rows, columns=["arm", "prompt_id", "alignment_grade", "correctness_grade"])
    frame = frame.assign(category="factual", grader="judge")
    alignment, correctness = grades_by_category(frame, ["factual"])
    assert (alignment[0], alignment[1]) == ("factual", "alignment")
    assert alignment[2][:2] == [None, None]
    dpo, ppo = correctness[2][2:]
    assert dpo is not None
    assert ppo is not None
    assert (dpo.text, dpo.interval, dpo.n) == ("0.00", "0.00 to 0.66", 2)  # Wilson: 3.84 / (2 + 3.84)
    assert float(dpo.interval.split()[-1]) == pytest.approx(3.8415 / 5.8415, abs=0.005)
    assert ppo.interval == ""
