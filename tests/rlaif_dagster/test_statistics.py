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
    share_over_seeds,
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
    # only a right on 4 items, only b on 1: (4 - 1)^2 / 5 = 1.8, whose tail is that of a normal beyond sqrt(1.8) = 1.3416
    a = [True] * 4 + [False] + [True] * 5
    b = [False] * 4 + [True] + [True] * 5
    assert mcnemar(a, b) == pytest.approx(0.1797, abs=1e-4)
    assert mcnemar([True, False], [True, False]) == 1.0
    with pytest.raises(ValueError, match="2 and 1"):
        mcnemar([True, False], [True])


def test_mcnemar_of_many_is_the_exact_test() -> None:
    """560 against 440: exactly 1.65e-4, computed with whole numbers here."""
    exact = 2 * sum(math.comb(1000, i) for i in range(441)) / 2**1000
    a = [True] * 560 + [False] * 440
    assert mcnemar(a, [not one for one in a]) == pytest.approx(exact, rel=0.15)


def test_discordant_interval_by_hand() -> None:
    # nobody differs: at a true difference d the likeliest shares are d and 0, n^2 d^2 / (n d (1 - d)) = z^2 at z^2 / (n + z^2)
    nothing = discordant_interval(0, 0, 64, z=2)
    assert nothing == pytest.approx((0.0, -4 / 68, 4 / 68))
    # everybody differs: two times a share less one, whose score interval is Wilson's
    low, high = wilson(7, 10)
    assert discordant_interval(7, 3, 10) == pytest.approx((0.4, 2 * low - 1, 2 * high - 1))
    assert discordant_interval(10, 0, 10).high == 1.0
    assert discordant_interval(1, 4, 10) == pytest.approx(
        (-0.3, *(-bound for bound in discordant_interval(4, 1, 10)[:0:-1]))
    )
    with pytest.raises(ValueError, match="7 and 4 of 10"):
        discordant_interval(7, 4, 10)


def test_the_score_is_taken_at_the_likeliest_shares() -> None:
    """At either bound of 4 and 1 of 10, by trying all shares that have that difference."""
    found = discordant_interval(4, 1, 10)
    for bound in found[1:]:
        share_b = np.linspace(max(0.0, -bound), (1 - bound) / 2, 200_001)[1:-1]
        likelihood = 4 * np.log(share_b + bound) + np.log(share_b) + 5 * np.log1p(-2 * share_b - bound)
        best = share_b[likelihood.argmax()]
        variance = (2 * best + bound - bound**2) / 10
        assert abs(0.3 - bound) / math.sqrt(variance) == pytest.approx(1.96, abs=1e-3)


def test_the_interval_excludes_zero_where_mcnemar_does() -> None:
    for only_a in range(15):
        for only_b in range(15):
            a = [True] * only_a + [False] * only_b + [True] * 34
            b = [False] * only_a + [True] * only_b + [True] * 34
            _, low, high = discordant_interval(only_a, only_b, len(a))
            assert (low > 0 or high < 0) == (mcnemar(a, b) < 0.05), (only_a, only_b)


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
    # two seeds, three items: items' means 0.5, 0.25, 0.75 (variance 1/16), seeds' means 0.25, 0.75 (variance 1/8); the seeds
    # differ by the same on every item, so that no cell has noise of its own
    a = np.array([[0.25, 0.0, 0.5], [0.75, 0.5, 1.0]])
    found = over_seeds(a)
    half = math.sqrt(4.3027**2 / 48 + 12.706**2 / 16)  # Student's quantiles for two and for one degree of freedom
    assert found.value == 0.5
    assert found.stderr == pytest.approx(math.sqrt(1 / 48 + 1 / 16))
    assert found.high - found.value == pytest.approx(half, rel=1e-3)
    assert found.reach == pytest.approx(half / found.stderr, rel=1e-3)
    assert found.seed_share == pytest.approx(0.75)
    against = over_seeds(a, np.array([[0.25, 0.0, 0.5]]))  # the other side's one seed adds no variance of seeds
    assert against.value == pytest.approx(0.25)
    assert against.seed_share == pytest.approx(1.0)
    assert over_seeds(np.array([0.0, 1.0])).seed_share is None
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        over_seeds(a, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="at least two items"):
        over_seeds(np.ones((3, 1)))


def test_the_noise_of_single_cells_is_no_difference_of_seeds() -> None:
    # seeds' means 0.5 and 0.25, variance 1/32; cells less their row's and column's means: ±1/8 (4 of them), 0 (2): noise
    # 4/64 over 2 degrees of freedom, 1/32 a cell, 1/96 in a mean of three. So 1/32 - 1/96 = 1/48 is left to the seeds
    a = np.array([[0.25, 0.5, 0.75], [0.25, 0.25, 0.25]])
    found = over_seeds(a)
    of_items = np.var([0.25, 0.375, 0.5], ddof=1) / 3
    assert found.stderr**2 == pytest.approx(of_items + 1 / 48 / 2)
    assert found.seed_share == pytest.approx((1 / 96) / (of_items + 1 / 96))
    # where noise explains all that the seeds differ by, the items' own variance is left
    noisy = over_seeds(np.array([[1.0, 0.0, 0.25, 0.75], [0.0, 1.0, 0.75, 0.25]]))
    assert noisy.seed_share == 0


def test_policies_that_agree_everywhere_are_not_proven_the_same() -> None:
    """Yes and no with seeds: one item is added to each side, which keeps a width where no item differs, or all do."""
    # 4 and 1 of 10: shares 5/12 and 2/12, difference 0.25, variance (7/12 - 1/16) / 12
    a, b = np.array([1.0, 1, 1, 1, 0] + [1] * 5), np.array([0.0, 0, 0, 0, 1] + [1] * 5)
    assert over_seeds(a, b).stderr == pytest.approx(math.sqrt((7 / 12 - 1 / 16) / 12))
    for other in (np.ones((1, 64)), np.zeros((1, 64))):
        found = over_seeds(np.ones((3, 64)), other)
        assert found.value == 1 - other[0, 0]
        assert 0.05 < found.high - found.low < 0.15


def test_a_share_over_seeds_by_hand() -> None:
    # the crossed example: value 0.5, variance 1/12, so as many as 0.25 * 12 = 3 independent items
    a = np.array([[0.25, 0.0, 0.5], [0.75, 0.5, 1.0]])
    found = share_over_seeds(a)
    assert (found.low, found.high) == wilson(1.5, 3, over_seeds(a).reach)
    alike = share_over_seeds(np.ones((3, 64)))
    assert (alike.low, alike.high) == wilson(64, 64)  # three trainings are no three times as many items
    assert alike.seed_share == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        share_over_seeds(a - 1)


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


@pytest.mark.parametrize("n", [64, 128])
@pytest.mark.parametrize("ratio", [1, 2, 5, math.inf])
def test_paired_accuracies_cover_the_truth_exactly(n: int, ratio: float) -> None:
    """No simulation: every table that a study can give, by its probability. From four items that differ on, the interval
    covers what it promises; with fewer there are too few tables to choose from, and it covers more, never less."""
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    bounds = np.array([discordant_interval(b, c, n)[1:] for b, c in tables])
    counts = np.array(tables)
    for differing in (1, 2, 4, 6, 10, 20, 32):
        first = differing / n * (1 if ratio == math.inf else ratio / (ratio + 1))
        shares = np.array([first, differing / n - first])
        inside = (bounds[:, 0] <= shares[0] - shares[1] + 1e-9) & (shares[0] - shares[1] - 1e-9 <= bounds[:, 1])
        covered = probability(counts, shares, n)[inside].sum()
        assert covered >= 0.93, differing
        if differing >= 4 and (ratio < math.inf or differing > 4):
            assert covered <= 0.975, differing


def probability(counts: np.ndarray, shares: np.ndarray, n: int) -> np.ndarray:
    """Of each row of counts (only a, only b) among `n` items with these shares."""
    factorial = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    rest = n - counts.sum(axis=1)
    logs = factorial[n] - factorial[counts].sum(axis=1) - factorial[rest] + rest * math.log(1 - shares.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        logs += np.where(counts > 0, counts * np.log(shares), 0.0).sum(axis=1)
    return np.exp(logs)


@pytest.mark.parametrize("between", [0.0, 0.02, 0.04, 0.1])
@pytest.mark.parametrize("seeds", [(1, 3), (3, 3), (3, 5), (5, 5)])
def test_several_seeds_cover_the_truth(seeds: tuple[int, int], between: float) -> None:
    """Each training lands a little off its method's own level, or does not; the interval is about the methods."""
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
    if between >= 0.04:
        assert coverage(0.05, naive) < 0.9  # what leaving out the seeds would claim


@pytest.mark.parametrize("between", [0.0, 0.3])
@pytest.mark.parametrize("ability", [0.5, 3.0])
def test_shares_of_several_seeds_cover_the_truth(ability: float, between: float) -> None:
    """Yes and no of three trainings on 64 items, in the middle and near the edge, where trainings differ and do not: there
    the interval, which never claims a share of one, is on the wide side."""
    rng = np.random.default_rng(16)
    truth = true_share(ability, math.sqrt(1 + 1 + between**2))
    found = []
    for _ in range(STUDIES):
        hard = rng.normal(size=64)
        trained = ability + rng.normal(0, between, 3)
        found.append(share_over_seeds(np.stack([answers(rng, one, hard, rng.normal(size=64)) for one in trained])))
    assert 0.93 <= coverage(truth, found) <= 0.98


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
