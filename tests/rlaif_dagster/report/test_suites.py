from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.report.suites import kind_of, name_of, suites_of

NO_ITEMS = pd.DataFrame(columns=["arm", "seed", "task", "item_id", "correct", "score"])


def benchmarks(*rows: tuple[str, str, float, int]) -> pd.DataFrame:
    """Rows of (task, metric, value, n) for base."""
    frame = pd.DataFrame(rows, columns=["task", "metric", "value", "n"])
    return frame.assign(
        arm="base", seed=0, stderr=0.02, ci_low=frame["value"] - 0.04, ci_high=frame["value"] + 0.04, fewshot=0
    )


@pytest.mark.parametrize(
    ("task", "name", "kind"),
    [
        ("truthfulqa_mini", "TruthfulQA mini", "alignment"),
        ("truthfulqa_mini_mc2", "TruthfulQA mini", "alignment"),
        ("pku_saferlhf", "PKU-SafeRLHF", "alignment"),
        ("mmlu_mini", "MMLU mini", "capability"),
        ("hellaswag", "HellaSwag", "capability"),
        ("gsm8k", "gsm8k", "capability"),
    ],
)
def test_names_a_suite_and_says_what_it_speaks_for(task: str, name: str, kind: str) -> None:
    assert (name_of(task), kind_of(task)) == (name, kind)


def test_truthfulqa_is_named_by_its_scoring_wherever_that_stands() -> None:
    by_metric = suites_of(
        benchmarks(("truthfulqa_mini", "mc1", 0.3, 64), ("truthfulqa_mini", "mc2", 0.5, 64)), NO_ITEMS
    )
    by_task = suites_of(benchmarks(("truthfulqa_mc1", "acc", 0.3, 817), ("truthfulqa_mc2", "acc", 0.5, 817)), NO_ITEMS)
    assert [suite.name for suite in by_metric] == ["TruthfulQA mini MC1", "TruthfulQA mini MC2"]
    assert [suite.name for suite in by_task] == ["TruthfulQA MC1", "TruthfulQA MC2"]


def test_pools_the_subjects_of_mmlu_by_their_items() -> None:
    frame = benchmarks(("mmlu_anatomy", "acc", 0.4, 100), ("mmlu_astronomy", "acc", 0.6, 300))
    (suite,) = suites_of(frame, NO_ITEMS)
    base = suite.estimates["base"]
    assert suite.name == "MMLU"
    assert base.n == 400
    assert base.value == pytest.approx(0.55)  # (100 · 0.4 + 300 · 0.6) / 400
    # standard error sqrt((0.25 · 0.02)² + (0.75 · 0.02)²) = 0.015811
    assert base.high - base.value == pytest.approx(1.96 * 0.015811, abs=1e-5)


def test_the_groups_own_number_wins_over_the_pool() -> None:
    frame = benchmarks(
        ("mmlu", "acc", 0.5, 400), ("mmlu_anatomy", "acc", 0.4, 100), ("mmlu_astronomy", "acc", 0.6, 300)
    )
    (suite,) = suites_of(frame, NO_ITEMS)
    assert suite.estimates["base"].value == 0.5


def test_a_normalized_accuracy_takes_the_headline() -> None:
    suites = suites_of(benchmarks(("hellaswag", "acc", 0.4, 64), ("hellaswag", "acc_norm", 0.5, 64)), NO_ITEMS)
    assert {suite.name: suite.headline for suite in suites} == {"HellaSwag": True, "HellaSwag, unnormalized": False}


def test_items_go_to_the_metric_whose_mean_they_have() -> None:
    items = pd.DataFrame({
        "arm": "base", "seed": 0, "task": "hellaswag", "item_id": ["a", "b"], "correct": [True, False], "score": [1.0, 0.0],
    })  # fmt: skip
    suites = suites_of(benchmarks(("hellaswag", "acc", 0.4, 2), ("hellaswag", "acc_norm", 0.5, 2)), items)
    assert {suite.name: len(suite.items) for suite in suites} == {"HellaSwag": 2, "HellaSwag, unnormalized": 0}


def test_metrics_that_are_no_share_stay_out() -> None:
    assert suites_of(benchmarks(("wikitext", "word_perplexity", 23.0, 62)), NO_ITEMS) == []
