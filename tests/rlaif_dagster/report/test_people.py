from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.report.people import agreement
from rlaif_dagster.spec.labels import is_human

COLUMNS = ["prompt_id", "arm", "grader", "alignment_grade", "correctness_grade"]


def frame(*rows: tuple[str, str, str, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS).assign(seed=0)


def test_people_are_told_from_judges() -> None:
    assert [is_human(name) for name in ("human", "human:anna", "likelihood", "humane-judge")] == [
        True,
        True,
        False,
        False,
    ]


def test_without_people_there_is_no_agreement() -> None:
    assert agreement(frame(("p", "dpo", "likelihood", 0.5, None))) is None
    assert agreement(frame()) is None


def test_agreement_counts_pairs_that_people_put_in_an_order() -> None:
    found = agreement(
        frame(
            # p: people say dpo > ppo > base; the judge says ppo > dpo > base: right on 2 of 3
            ("p", "dpo", "human:a", 1.0, 1.0), ("p", "ppo", "human:a", 0.5, 0.0), ("p", "base", "human:b", 0.0, None),
            ("p", "dpo", "judge", 0.6, 0.9), ("p", "ppo", "judge", 0.8, 0.8), ("p", "base", "judge", 0.1, None),
            # q: people see no difference, so the judge cannot agree or disagree
            ("q", "dpo", "human:a", 0.5, None), ("q", "ppo", "human:a", 0.5, None),
            ("q", "dpo", "judge", 0.1, None), ("q", "ppo", "judge", 0.9, None),
            # r: a judge's tie counts half
            ("r", "dpo", "human:a", 0.75, None), ("r", "ppo", "human:a", 0.25, None),
            ("r", "dpo", "judge", 0.4, None), ("r", "ppo", "judge", 0.4, None),
        )
    )  # fmt: skip
    assert found is not None
    assert found.order is not None
    assert found.order.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert (found.order.n, found.pairs) == (2, 4)
    assert (found.graders, found.answers, found.prompts) == (("a", "b"), 7, 3)
    assert found.same is not None
    assert found.same.value == 0.5  # dpo right for both, ppo right for the judge alone
    assert found.means[0] == ("base", "0.00", "0.10")


def test_several_people_are_averaged_an_answer() -> None:
    found = agreement(
        frame(("p", "dpo", "human:a", 1.0, None), ("p", "dpo", "human:b", 0.5, None), ("p", "dpo", "judge", 0.3, None))
    )
    assert found is not None
    assert found.means == (("DPO", "0.75", "0.30"),)
    assert found.order is None
