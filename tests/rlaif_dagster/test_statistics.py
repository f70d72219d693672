"""Numbers worked out by hand, and a simulation of what a 95% interval promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlaif_dagster.statistics import (
    bootstrap_mean,
    logistic_regression,
    mcnemar,
    mean_interval,
    paired_difference,
    wilson,
    win_rate_interval,
)


def test_wilson_by_hand() -> None:
    # share 0.5, n = 4, z = 2: center (0.5 + 4/8) / 2 = 0.5; half 2/2 * sqrt(0.25/4 + 4/64) = sqrt(0.125)
    assert wilson(2, 4, z=2) == pytest.approx((0.5 - math.sqrt(0.125), 0.5 + math.sqrt(0.125)))
    # all successes, n = 4, z = 2: center (1 + 0.5) / 2 = 0.75, half 2/2 * sqrt(4/64) = 0.25
    assert wilson(4, 4, z=2) == pytest.approx((0.5, 1.0))
    assert wilson(0, 4, z=2) == pytest.approx((0.0, 0.5))
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 of 4"):
        wilson(5, 4)


def test_wilson_covers_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.9):
        intervals = [wilson(int(successes), 60) for successes in rng.binomial(60, share, 2000)]
        covered = np.mean([low <= share <= high for low, high in intervals])
        assert 0.93 <= covered <= 0.98


def test_mean_interval_by_hand() -> None:
    # mean 0.5, variance (0.09 + 0.01 + 0.01 + 0.09) / 3 = 0.2 / 3, standard error sqrt(0.2 / 12)
    found = mean_interval([0.2, 0.4, 0.6, 0.8], z=2)
    stderr = math.sqrt(0.2 / 12)
    assert found == pytest.approx((0.5, stderr, 0.5 - 2 * stderr, 0.5 + 2 * stderr))
    zero_one = mean_interval([1, 1, 0, 0], z=2)
    assert (zero_one.value, zero_one.stderr) == pytest.approx((0.5, math.sqrt(1 / 3 / 4)))
    assert (zero_one.low, zero_one.high) == wilson(2, 4, z=2)
    assert math.isnan(mean_interval([0.3]).stderr)
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])


def test_bootstrap_is_seeded_and_covers() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    assert bootstrap_mean([2.0, 2.0]) == (2.0, 2.0, 2.0)
    rng = np.random.default_rng(2)
    found = [bootstrap_mean(rng.exponential(size=60), seed=i, n_boot=500) for i in range(400)]
    assert 0.89 <= np.mean([low <= 1 <= high for _, low, high in found]) <= 0.97


def test_paired_difference_sees_through_what_items_share() -> None:
    """b is a with 0.1 taken off: the difference is certain although both means are not."""
    a = np.array([0.0, 1.0, 0.0, 1.0])
    assert paired_difference(a, a - 0.1) == pytest.approx((0.1, 0.1, 0.1))
    assert paired_difference([1, 0, 1, 1], [0, 0, 1, 1]).value == 0.25
    with pytest.raises(ValueError, match="3 and 2"):
        paired_difference([1, 2, 3], [1, 2])


def test_win_rate() -> None:
    found = win_rate_interval([1, 1, 0.5, 0])
    assert found.value == 0.625
    assert 0 <= found.low < 0.625 < found.high <= 1
    assert win_rate_interval([1] * 20) == (1.0, *wilson(20, 20))
    with pytest.raises(ValueError, match="between 0 and 1"):
        win_rate_interval([2.0, 0.0])


def test_mcnemar_by_hand() -> None:
    # only a right on 4 items, only b on 1: 2 * (1 + 5) / 32
    a = [True] * 4 + [False] + [True] * 5
    b = [False] * 4 + [True] + [True] * 5
    assert mcnemar(a, b) == pytest.approx(12 / 32)
    assert mcnemar([True, False], [True, False]) == 1.0


def test_logistic_regression() -> None:
    # an intercept alone: the log-odds of the share, here log(3)
    ones = np.ones((4, 1))
    assert logistic_regression(ones, np.array([1.0, 1, 1, 0]), ridge=0)[0] == pytest.approx(math.log(3))
    # soft targets made by known weights are fitted exactly
    x = np.column_stack([np.ones(50), np.linspace(-2, 2, 50)])
    truth = np.array([0.4, -1.3])
    assert logistic_regression(x, 1 / (1 + np.exp(-x @ truth)), ridge=0) == pytest.approx(truth)
    # separable data stay finite
    assert np.isfinite(logistic_regression(x, (x[:, 1] > 0).astype(float))).all()
