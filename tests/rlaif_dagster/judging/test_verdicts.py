from __future__ import annotations

import pytest

from rlaif_dagster.judging.verdicts import judgments_frame, make_pair, verdict_of
from rlaif_dagster.warehouse.schemas import TABLES


def test_a_pair_is_the_same_whichever_answer_is_named_first() -> None:
    one = make_pair("p", "Why?", ("2", "two"), ("1", "one"))
    assert one == make_pair("p", "Why?", ("1", "one"), ("2", "two"))
    assert (one.a, one.b) == ("one", "two")


@pytest.mark.parametrize(
    ("p_a", "margin", "verdict"),
    [(0.5, 0.0, "tie"), (0.51, 0.0, "a"), (0.49, 0.0, "b"), (0.55, 0.1, "a"), (0.54, 0.1, "tie"), (0.46, 0.1, "tie")],
)
def test_a_tie_is_a_probability_within_the_margin(p_a: float, margin: float, verdict: str) -> None:
    assert verdict_of(p_a, margin) == verdict


def test_the_frame_has_the_tables_columns_even_without_rows() -> None:
    expected = [column.name for column in TABLES["judgments"].columns]
    assert list(judgments_frame([]).columns) == expected
