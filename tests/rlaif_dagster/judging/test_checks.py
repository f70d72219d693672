from __future__ import annotations

import pandas as pd

from rlaif_dagster.judging.checks import pair_checks, verdict_checks
from rlaif_dagster.spec.recipes import Judging
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
