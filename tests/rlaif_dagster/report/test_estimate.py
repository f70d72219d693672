from __future__ import annotations

import math

import pytest

from rlaif_dagster.report.estimate import Estimate, joined, percent, signed


@pytest.mark.parametrize(
    ("value", "n", "text"),
    [(0.914, 64, "91%"), (0.914, 5000, "91.4%"), (-0.03, 64, "−3%"), (-0.001, 64, "0%"), (1.0, 3, "100%")],
)
def test_percent_has_the_decimals_that_n_can_carry(value: float, n: int, text: str) -> None:
    assert percent(value, n) == text


def test_signed_numbers_never_show_a_signed_zero() -> None:
    assert [signed(value) for value in (7.2, -3.4, 0.2, -0.2)] == ["+7", "−3", "0", "0"]


def test_points_are_counted_in_the_singular_too() -> None:
    assert Estimate(0.01, -0.02, 0.04, 64).points == "+1 point"
    assert Estimate(-0.07, -0.1, -0.04, 64).points == "−7 points"
    assert Estimate(-0.07, -0.1, -0.04, 64).points_range == "−10 to −4"


def test_an_unknown_interval_decides_nothing() -> None:
    unknown = Estimate(0.5, math.nan, math.nan, 1)
    assert (unknown.sign(), unknown.share_range) == (0, "")


def test_lists_read_like_english() -> None:
    assert [joined([]), joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_an_interval_among_several_is_wider() -> None:
    # two looks: z of 1 - 0.025 / 2 is 2.2414, so the lower half of 0.09 grows to 0.1029
    assert Estimate(0.1, 0.01, 0.19, 64).sign_among(1) == 1
    assert Estimate(0.1, 0.01, 0.19, 64).sign_among(2) == 0
    assert Estimate(0.1, -0.001 + 0.01, 0.19, 64).sign() == 1
    assert Estimate(0.6, 0.59, 0.61, 64).sign_among(3, 0.5) == 1


def test_what_an_n_can_show_and_what_it_would_take() -> None:
    seen = Estimate(0.05, 0.05 - 0.0196, 0.05 + 0.0196, 100)  # standard error 0.01
    assert seen.detectable() == pytest.approx(0.028016, abs=1e-5)  # (1.95996 + 0.84162) x 0.01
    assert seen.items_needed() == 32  # 100 (2.8016 / 5)^2 = 31.4
    assert Estimate(0.0, -0.1, 0.1, 64).items_needed() is None
    assert Estimate(0.6, 0.5, 0.7, 64).items_needed(0.5) == 131  # 64 (2.8016 x 0.05102 / 0.1)^2 = 130.8
    assert Estimate(0.6, 0.5, 0.7, 64, seed_share=0.7).items_needed(0.5) is None  # more items would not help
