from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.judging.aggregate import preferences, with_ties
from rlaif_dagster.judging.verdicts import P_A, Judgment, judgments_frame
from tests.rlaif_dagster.judging.conftest import constitution

Row = tuple[str, str, str, str, float | None]  # pair, principle, order, verdict, p_a (None: what the verdict says)


def frame(*rows: Row) -> pd.DataFrame:
    return judgments_frame([
        Judgment(pair, f"prompt of {pair}", f"{pair}a", f"{pair}b", principle, order, verdict,  # type: ignore[arg-type]
                 P_A.get(verdict) if p_a is None else p_a, "", "judge", "v", 1, 1, 0.0, 0.0, False)  # type: ignore[call-overload]
        for pair, principle, order, verdict, p_a in rows
    ])  # fmt: skip


def one(judgments: pd.DataFrame, *weights: float) -> dict[str, object]:
    """The only preference, under principles p0, p1, … of these weights."""
    found = preferences(judgments, constitution(*["A principle." for _ in weights], weights=weights))
    assert len(found) == 1
    return found.iloc[0].to_dict()


def test_principles_count_by_weight() -> None:
    judged = frame(("1", "p0", "none", "a", 0.9), ("1", "p1", "none", "b", 0.2))
    assert one(judged, 3, 1)["p_a"] == pytest.approx((3 * 0.9 + 0.2) / 4)


def test_both_orders_count_alike() -> None:
    judged = frame(("1", "p0", "ab", "a", None), ("1", "p0", "ba", "b", None))
    assert one(judged, 1) | {"p_a": 0.5, "order_consistent": False, "verdicts": 2, "failed": 0} == one(judged, 1)


def test_orders_are_averaged_within_a_principle_before_principles_are() -> None:
    # p0 lost an order to a refusal: its one verdict still speaks for all of its weight
    judged = frame(
        ("1", "p0", "ab", "a", None), ("1", "p0", "ba", "refused", None),
        ("1", "p1", "ab", "b", None), ("1", "p1", "ba", "tie", None),
    )  # fmt: skip
    assert one(judged, 1, 1)["p_a"] == pytest.approx((1.0 + 0.25) / 2)


def test_failed_verdicts_are_left_out_and_counted() -> None:
    judged = frame(
        ("1", "p0", "ab", "a", None), ("1", "p0", "ba", "unparseable", None),
        ("1", "p1", "ab", "refused", None), ("1", "p1", "ba", "error", None),
    )  # fmt: skip
    found = one(judged, 1, 9)
    assert (found["p_a"], found["verdicts"], found["failed"]) == (1.0, 4, 3)


def test_a_pair_without_any_verdict_has_no_preference() -> None:
    found = one(frame(("1", "p0", "ab", "refused", None), ("1", "p0", "ba", "error", None)), 1)
    assert pd.isna(found["p_a"])
    assert found["order_consistent"] is False


@pytest.mark.parametrize(
    ("ab", "ba", "consistent"),
    [
        ("a", "a", True),
        ("b", "b", True),
        ("tie", "tie", True),
        ("a", "b", False),
        ("a", "tie", False),
        ("a", "refused", False),
    ],
)
def test_consistent_is_the_same_preference_from_either_order(ab: str, ba: str, consistent: bool) -> None:
    judged = frame(("1", "p0", "ab", ab, None), ("1", "p0", "ba", ba, None))
    assert one(judged, 1)["order_consistent"] is consistent


def test_consistency_is_of_the_pair_not_of_each_principle() -> None:
    # the heavier principle carries both orders, whatever the lighter one says
    judged = frame(
        ("1", "p0", "ab", "a", None), ("1", "p0", "ba", "a", None),
        ("1", "p1", "ab", "a", None), ("1", "p1", "ba", "b", None),
    )  # fmt: skip
    assert one(judged, 2, 1)["order_consistent"] is True


@pytest.mark.parametrize("order", ["none", "ab"])
def test_without_both_orders_nothing_is_known_of_consistency(order: str) -> None:
    assert pd.isna(one(frame(("1", "p0", order, "a", None)), 1)["order_consistent"])


def test_a_principle_that_is_gone_is_not_counted() -> None:
    judged = frame(("1", "p0", "none", "a", 0.8), ("1", "old", "none", "b", 0.0))
    assert one(judged, 1)["p_a"] == pytest.approx(0.8)


def test_no_judgments_give_no_preferences() -> None:
    assert preferences(frame(), constitution("A principle.")).empty


def test_ties_are_told_by_the_margin_and_failures_stay() -> None:
    judged = frame(("1", "p0", "none", "a", 0.54), ("2", "p0", "none", "b", 0.3), ("3", "p0", "ab", "refused", None))
    assert with_ties(judged, 0.1)["verdict"].tolist() == ["tie", "b", "refused"]
    assert with_ties(judged, 0.1)["p_a"].tolist()[:2] == [0.54, 0.3]
