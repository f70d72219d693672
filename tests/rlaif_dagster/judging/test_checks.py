from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.judging.agreement import COLUMNS
from rlaif_dagster.judging.checks import pair_checks, trust_check, verdict_checks
from rlaif_dagster.spec.recipes import Judging, Trust
from tests.rlaif_dagster.judging.test_aggregate import frame

RECIPE = Judging(judge="j", max_failed_share=0.25)


def test_failed_verdicts_up_to_the_share_pass() -> None:
    rows = [("1", "p0", "ab", "a"), ("1", "p0", "ba", "b"), ("2", "p0", "ab", "tie"), ("2", "p0", "ba", "refused")]
    (check,) = verdict_checks(frame(*[(*row, None) for row in rows]), RECIPE)
    assert (check.name, check.passed) == ("verdicts", True)
    assert check.message == (
        "1 of 4 verdicts failed (25.0%, allowed 25.0%); 1 refused; the order changed 1 of 1 verdicts (100.0%)"
    )


def test_more_fail_and_the_reason_is_told() -> None:
    judged = frame(
        ("1", "p0", "none", "a", None), ("2", "p0", "none", "error", None), ("3", "p0", "none", "unparseable", None)
    )
    (check,) = verdict_checks(judged.assign(raw=["", "RateLimitError 429: slow down", "?"]), RECIPE)
    assert not check.passed
    assert "2 of 3 verdicts failed (66.7%, allowed 25.0%); 1 unparseable, 1 error" in check.message
    assert "most often: RateLimitError 429: slow down" in check.message


def test_nothing_judged_fails() -> None:
    (check,) = verdict_checks(frame(), RECIPE)
    assert not check.passed


def test_pairs_to_train_on_are_needed() -> None:
    (good,) = pair_checks(pd.DataFrame({"split": ["train", "train", "held_out"], "margin": [0.2, 0.4, 0.9]}))
    assert (good.name, good.passed, good.message) == (
        "pairs",
        True,
        "2 pairs to train on, 1 held out; median margin 0.40",
    )
    (bad,) = pair_checks(pd.DataFrame({"split": ["held_out"], "margin": [0.9]}))
    assert not bad.passed
    assert "min_margin" in bad.message


def agreed(**numbers: float | None) -> pd.DataFrame:
    """One file of labels with these numbers, and a principle of it that is worse."""
    whole = {
        "dataset": "mine", "slice": "all", "name": None, "judge": "j", "n": 100, "accuracy": 0.7, "ci_low": 0.6,
        "ci_high": 0.78, "kappa": 0.4, "order_consistency": 0.8, "first_position": 0.65, "failed": 0.0, "errors": 0,
        "longest_baseline": 0.62,
    }  # fmt: skip
    return pd.DataFrame(
        [whole | numbers, whole | {"slice": "principle", "name": "p", "accuracy": 0.1}], columns=COLUMNS
    )


def asking(**thresholds: float | bool) -> Judging:
    return Judging(judge="j", trust=Trust.model_validate(thresholds))


def test_without_thresholds_a_judge_passes_and_its_numbers_are_told() -> None:
    check = trust_check(agreed(accuracy=0.5), asking())
    assert (check.name, check.passed) == ("trust", True)
    assert check.message == (
        "mine (100 pairs): accuracy 50% (60% to 78%), the longer answer 62%; no threshold is set (trust in judging.yaml)"
    )


@pytest.mark.parametrize(
    ("thresholds", "reason"),
    [
        ({"min_accuracy": 0.71}, "mine: accuracy 0.700 is below min_accuracy 0.71"),
        ({"min_kappa": 0.5}, "mine: kappa 0.400 is below min_kappa 0.5"),
        ({"beat_longest": True}, "is not clearly above the longer answer's 0.620 (beat_longest)"),
        ({"min_order_consistency": 0.9}, "order consistency 0.800 is below min_order_consistency 0.9"),
        ({"max_position_bias": 0.1}, "the first place wins 0.650, more than 0.1 (max_position_bias) off one half"),
    ],
)
def test_each_threshold_blocks_by_itself(thresholds: dict[str, float], reason: str) -> None:
    check = trust_check(agreed(), asking(**thresholds))
    assert not check.passed
    assert reason in check.message
    assert "choose another judge, or lower trust in data/recipes/judging.yaml" in check.message


def test_what_is_reached_passes_and_what_a_measuring_judge_lacks_is_not_held_against_it() -> None:
    thresholds = {"min_accuracy": 0.7, "min_kappa": 0.4, "min_order_consistency": 0.8, "max_position_bias": 0.15}
    assert trust_check(agreed(), asking(**thresholds)).passed
    assert trust_check(agreed(order_consistency=None, first_position=None), asking(**thresholds)).passed
    assert not trust_check(agreed(kappa=None), asking(**thresholds)).passed


def test_thresholds_without_labels_block_and_say_what_to_do() -> None:
    nothing = pd.DataFrame(columns=COLUMNS)
    assert trust_check(nothing, asking()).passed
    check = trust_check(nothing, asking(min_accuracy=0.6))
    assert not check.passed
    assert "give labels for it in data/labels" in check.message
