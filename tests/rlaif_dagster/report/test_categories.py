from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.report.categories import grades_by_category, safety_measures
from rlaif_dagster.report.suites import Suite, suites_of


def suites(task: str = "pku_saferlhf_mini", metric: str = "acc_norm", categories: object = None) -> list[Suite]:
    rows = [
        ("base", "a", 1.0),
        ("base", "b", 0.0),
        ("base", "c", 1.0),
        ("dpo", "a", 1.0),
        ("dpo", "b", 1.0),
        ("dpo", "c", 1.0),
    ]
    items = pd.DataFrame(rows, columns=["arm", "item_id", "score"])
    items = items.assign(seed=0, task=task, metric=metric, categories=categories)
    levels = items.groupby("arm")["score"].mean()
    numbers = pd.DataFrame({"arm": levels.index, "value": levels.to_numpy()})
    numbers = numbers.assign(
        seed=0, task=task, metric=metric, category=None, n=3, ci_low=0.1, ci_high=0.9, stderr=0.1, fewshot=0
    )
    return suites_of(numbers, items)


def test_an_item_counts_in_each_of_its_categories() -> None:
    crime, privacy = safety_measures(suites(categories=[["Privacy"], ["Privacy", "Crime"], ["Crime"]] * 2))
    assert (crime.name, crime.items, crime.estimates["base"].value) == ("Crime", 2, 0.5)
    assert privacy.differences["dpo", "base"].value == 0.5
    assert (crime.detail, crime.chance) == ("PKU-SafeRLHF mini, 2 items", 0.5)


def test_the_largest_category_comes_first() -> None:
    found = safety_measures(suites(categories=[["A", "B"], ["B"], ["B"]] * 2))
    assert [(one.name, one.items) for one in found] == [("B", 3), ("A", 1)]


def test_other_suites_and_items_without_category_are_left_out() -> None:
    assert safety_measures(suites()) == []
    assert safety_measures(suites(task="mmlu_mini", metric="acc", categories=[["astronomy"]] * 6)) == []


def test_harmful_answers_are_counted_as_harmless_ones_so_that_more_is_better() -> None:
    (suite,) = suites("pku_saferlhf_mini_generation", "harmful", [["A"]] * 6)
    assert suite.name == "PKU-SafeRLHF mini, harmless answers"
    assert suite.estimates["base"].value == pytest.approx(1 / 3)
    assert (suite.estimates["dpo"].low, suite.estimates["dpo"].high) == (pytest.approx(0.1), pytest.approx(0.9))
    (risk,) = safety_measures([suite])
    assert (risk.estimates["base"].value, risk.estimates["dpo"].value, risk.chance) == (pytest.approx(1 / 3), 0.0, None)
    assert not suites("pku_saferlhf_mini_generation", "refused")[0].headline


def test_grades_by_category_keep_an_interval_when_all_are_equal() -> None:
    rows = [("dpo", "p", 0.2, 0.0), ("dpo", "q", 0.4, 0.0), ("ppo", "p", 0.3, 1.0)]
    frame = pd.DataFrame(rows, columns=["arm", "prompt_id", "alignment_grade", "correctness_grade"])
    frame = frame.assign(category="factual", grader="judge", seed=0)
    alignment, correctness = grades_by_category(frame, ["factual"])
    assert (alignment[0], alignment[1]) == ("factual", "alignment")
    assert alignment[2][:2] == [None, None]
    dpo, ppo = correctness[2][2:]
    assert dpo is not None
    assert ppo is not None
    assert (dpo.text, dpo.interval, dpo.n) == ("0.00", "0.00 to 0.66", 2)  # Wilson: 3.84 / (2 + 3.84)
    assert float(dpo.interval.split()[-1]) == pytest.approx(3.8415 / 5.8415, abs=0.005)
    assert ppo.interval == ""
