"""Numbers worked out by hand, and a simulation of what a 95% interval promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlaif_dagster.statistics import (
    bootstrap_mean,
    detectable,
    discordant_interval,
    items_needed,
    logistic_regression,
    mcnemar,
    mean_interval,
    over_seeds,
    paired_deviation,
    paired_difference,
    t_quantile,
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
    with pytest.raises(ValueError, match="2 and 1"):
        mcnemar([True, False], [True])


def test_mcnemar_of_very_many_is_close_to_exact() -> None:
    """560 against 440: exactly 1.65e-4, computed with whole numbers here; the approximation stands in beyond 1,000."""
    exact = 2 * sum(math.comb(1000, i) for i in range(441)) / 2**1000
    a = [True] * 560 + [False] * 440
    assert mcnemar(a, [not one for one in a]) == pytest.approx(exact)
    more = [True] * 561 + [False] * 441
    assert mcnemar(more, [not one for one in more]) == pytest.approx(exact, rel=0.05)


def test_discordant_interval_by_hand() -> None:
    # 4 and 1 of 10, z = 2: shares 5/12 and 2/12, difference 0.25, variance (7/12 - 1/16) / 12
    half = 2 * math.sqrt((7 / 12 - 1 / 16) / 12)
    assert discordant_interval(4, 1, 10, z=2) == pytest.approx((0.3, 0.25 - half, 0.25 + half))
    nothing = discordant_interval(0, 0, 64)
    assert nothing.value == 0
    assert -0.06 < nothing.low < 0 < nothing.high < 0.06
    assert discordant_interval(10, 0, 10).high == 1.0
    with pytest.raises(ValueError, match="7 and 4 of 10"):
        discordant_interval(7, 4, 10)


def test_yes_and_no_on_both_sides_is_paired_by_what_differs() -> None:
    a, b = [1, 1, 1, 1, 0] + [1] * 5, [0, 0, 0, 0, 1] + [1] * 5
    assert paired_difference(a, b) == discordant_interval(4, 1, 10)
    assert paired_deviation(a, b) == pytest.approx(math.sqrt(7 / 12 - 1 / 16))
    assert paired_deviation([0.1, 0.5, 0.3], [0.0, 0.3, 0.0]) == pytest.approx(0.1)


def test_student_s_t() -> None:
    """From the tables."""
    for freedom, quantile in ((1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (1e9, 1.960)):
        assert t_quantile(freedom) == pytest.approx(quantile, abs=2e-3)


def test_over_seeds_by_hand() -> None:
    # two seeds, three items: items' means 0.5, 0.25, 0.75 (variance 1/16), seeds' means 0.25, 0.75 (variance 1/8)
    a = np.array([[0.25, 0.0, 0.5], [0.75, 0.5, 1.0]])
    found = over_seeds(a)
    variance = 1 / 16 / 3 + 1 / 8 / 2
    freedom = variance**2 / ((1 / 48) ** 2 / 2 + (1 / 16) ** 2 / 1)
    assert found.value == 0.5
    assert found.stderr == pytest.approx(math.sqrt(variance))
    assert found.high - found.value == pytest.approx(t_quantile(freedom) * math.sqrt(variance))
    assert found.seed_share == pytest.approx(0.75)
    against = over_seeds(a, np.array([[0.25, 0.0, 0.5]]))  # the other side's one seed adds no variance of seeds
    assert against.value == pytest.approx(0.25)
    assert against.seed_share == pytest.approx(1.0)
    assert over_seeds(np.array([0.0, 1.0])).seed_share is None
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        over_seeds(a, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="at least two items"):
        over_seeds(np.ones((3, 1)))


def test_how_many_items_it_takes() -> None:
    # (1.96 + 0.8416)^2 = 7.849: a difference of half a deviation takes 31.4 items
    assert items_needed(0.5, 1.0) == 32
    assert items_needed(-0.5, 1.0) == 32
    assert items_needed(0.0, 1.0) is None
    assert detectable(1.0, 32) == pytest.approx(0.5, abs=5e-3)


# --- known answers: a thousand studies each, and how often the interval covers the truth ----------------------------------

STUDIES = 1000


def coverage(truth: float, intervals: list[tuple[float, ...]]) -> float:
    return float(np.mean([low <= truth <= high for _, low, high, *_ in intervals]))


def answers(rng: np.random.Generator, ability: float, difficulty: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Yes or no of an arm on items of given difficulty, with what the arm finds hard of its own."""
    return (rng.random(own.shape) < 1 / (1 + np.exp(difficulty + own - ability))).astype(float)


def true_share(ability: float, spread: float) -> float:
    """What the arm gets right of all items there could be."""
    return float((1 / (1 + np.exp(np.linspace(-8, 8, 4001) * spread - ability)) * _NORMAL).sum())


_GRID = np.linspace(-8, 8, 4001)
_NORMAL = np.exp(-(_GRID**2) / 2) / np.exp(-(_GRID**2) / 2).sum()


def test_levels_cover_the_truth() -> None:
    rng = np.random.default_rng(10)
    for n in (64, 300):
        shares = rng.uniform(0.1, 0.95, STUDIES)
        found = [wilson(rng.binomial(n, share), n) for share in shares]
        assert 0.93 <= np.mean([low <= p <= high for (low, high), p in zip(found, shares, strict=True)]) <= 0.97


@pytest.mark.parametrize(("n", "first", "second"), [(64, 0.9, 0.3), (64, 1.5, 1.5), (300, 0.5, 0.2)])
def test_paired_accuracies_cover_the_truth(n: int, first: float, second: float) -> None:
    """Two arms answer the same items, some hard for both, some for one."""
    rng = np.random.default_rng(11)
    truth = true_share(first, math.sqrt(2)) - true_share(second, math.sqrt(2))
    found = []
    for _ in range(STUDIES):
        hard = rng.normal(size=n)
        found.append(paired_difference(*(answers(rng, it, hard, rng.normal(size=n)) for it in (first, second))))
    assert 0.93 <= coverage(truth, found) <= 0.97


def test_paired_scores_cover_the_truth() -> None:
    """Shares of probability, as MC2's: skewed, bounded, alike on both sides."""
    rng = np.random.default_rng(12)
    found = []
    for number in range(STUDIES):
        b = rng.beta(1.2, 2.0, 64)
        found.append(paired_difference(b + 0.1 * rng.exponential(size=64) - 0.05, b, number, 1000))
    assert 0.93 <= coverage(0.05, found) <= 0.97


def test_win_rates_cover_the_truth() -> None:
    rng = np.random.default_rng(13)
    for win, tie in ((0.5, 0.2), (0.8, 0.0), (0.15, 0.5)):
        found = [win_rate_interval(rng.choice([1, 0.5, 0], 64, p=[win, tie, 1 - win - tie])) for _ in range(STUDIES)]
        assert 0.93 <= coverage(win + tie / 2, found) <= 0.97


@pytest.mark.parametrize(("seeds", "between"), [((1, 3), 0.04), ((3, 3), 0.04), ((5, 5), 0.03)])
def test_several_seeds_cover_the_truth(seeds: tuple[int, int], between: float) -> None:
    """Each training lands a little off its method's own level; the interval is about the methods."""
    rng = np.random.default_rng(14)
    found, naive = [], []
    for number in range(STUDIES):
        hard, own = rng.normal(0.5, 0.2, 100), rng.normal(0, 0.1, 100)
        arms = [
            hard
            + sign * own
            + (rng.normal(0, between, (many, 1)) if many > 1 else 0)
            + rng.normal(0, 0.15, (many, 100))
            for sign, many in zip((1, -1), seeds, strict=True)
        ]
        found.append(over_seeds(arms[0] + 0.05, arms[1]))
        if number < 300:
            naive.append(bootstrap_mean((arms[0] + 0.05).mean(0) - arms[1].mean(0), number, 300))
    assert 0.93 <= coverage(0.05, found) <= 0.97
    assert coverage(0.05, naive) < 0.9  # what leaving out the seeds would claim


def test_arms_that_are_equally_good_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(15)
    wrong = 0
    for _ in range(STUDIES):
        hard = rng.normal(size=64)
        a, b = (answers(rng, 0.5, hard, rng.normal(size=64)) for _ in range(2))
        _, low, high = paired_difference(a, b)
        wrong += low > 0 or high < 0
        if mcnemar(a, b) < 0.05:
            assert low > 0 or high < 0  # the two never contradict each other in that direction
    assert wrong / STUDIES <= 0.07


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
