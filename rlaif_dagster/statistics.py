"""Intervals and comparisons for the study's numbers: pure functions of arrays, numpy only.

Every interval is a 95% one unless `z` says otherwise.

shares of yes            Wilson's interval, which stays inside 0..1 and has a width when every item went the same way
paired yes and no        Bonett and Price's (2012) for the difference of two shares on the same items; like McNemar's test it
                         looks at the items on which only one side is right, and it has a width when there are none
means, other differences the percentile bootstrap (Efron, 1979) over items, with a fixed seed: the same values always give
                         the same interval
several training seeds   items and seeds are crossed random effects: another draw of either would move the number. A
                         bootstrap over three seeds would claim too much (it knows three values), so the two variances
                         are estimated and added, with Satterthwaite's degrees of freedom

A test simulates studies with known truths and counts how often each interval covers it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Z95 = 1.959963984540054
Z80 = (
    0.8416212335729143  # one-sided: with 80% power a difference is found that lies Z95 + Z80 standard errors from zero
)
RESAMPLES = 10_000
EXACT_MCNEMAR = 1_000  # items that differ; the binomial's terms outgrow a float soon after
_BLOCK = 4_000_000  # resampled values in memory at a time

Values = Sequence[float] | np.ndarray


class Estimate(NamedTuple):
    """A number and its 95% interval; unpacks as `value, low, high`."""

    value: float
    low: float
    high: float


class Mean(NamedTuple):
    """A mean, its standard error and its 95% interval."""

    value: float
    stderr: float
    low: float
    high: float


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval `(low, high)` for a share of `successes` among `n` (Wilson, 1927).

    Nothing observed (n = 0) says nothing: (0, 1). Raises ValueError when successes are not between 0 and n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n, found {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    center = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def mean_interval(values: Values, z: float = Z95) -> Mean:
    """Mean and standard error (n - 1 in the variance). The interval is Wilson's when every value is 0 or 1, otherwise
    the normal one. One value has no standard error: it and the interval are nan. Raises ValueError for no values."""
    array = _array(values)
    value, n = float(array.mean()), len(array)
    stderr = float(array.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    if np.isin(array, (0.0, 1.0)).all():
        return Mean(value, stderr, *wilson(float(array.sum()), n, z))
    return Mean(value, stderr, value - z * stderr, value + z * stderr)


def bootstrap_mean(values: Values, seed: int = 0, n_boot: int = RESAMPLES) -> Estimate:
    """The mean, with the 2.5% and 97.5% quantiles of the means of `n_boot` samples drawn with replacement.

    Raises ValueError for no values. Several values of one prompt are not independent: average them first.
    """
    array = _array(values)
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(array))
    means = [
        array[rng.integers(0, len(array), (min(rows, n_boot - done), len(array)))].mean(axis=1)
        for done in range(0, n_boot, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Estimate(float(array.mean()), float(low), float(high))


def paired_difference(a: Values, b: Values, seed: int = 0, n_boot: int = RESAMPLES) -> Estimate:
    """Mean of `a - b` item by item, with its interval: Bonett and Price's where both sides are yes or no, else the
    bootstrap's. Pairing takes out what the items have in common, so it sees differences that the two means' own
    intervals hide. Raises ValueError for different lengths."""
    first, second = _paired(a, b)
    if np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all():
        return discordant_interval(int((first > second).sum()), int((first < second).sum()), len(first))
    return bootstrap_mean(first - second, seed, n_boot)


def discordant_interval(only_a: int, only_b: int, n: int, z: float = Z95) -> Estimate:
    """Difference `(only_a - only_b) / n` of two shares of yes among the same `n` items, `only_a` and `only_b` of which
    said yes on one side alone (Bonett and Price, 2012: one item is added to each). Raises ValueError for more of them
    than items."""
    if min(only_a, only_b) < 0 or only_a + only_b > n or n == 0:
        raise ValueError(f"at most n items can differ, found {only_a} and {only_b} of {n}")
    center, stderr = _laplace(only_a, only_b, n)
    value = (only_a - only_b) / n
    return Estimate(value, max(-1.0, min(value, center - z * stderr)), min(1.0, max(value, center + z * stderr)))


def win_rate_interval(outcomes: Values, seed: int = 0, n_boot: int = RESAMPLES) -> Estimate:
    """Win rate over prompts, each outcome in 0..1 (a win 1, a tie 0.5, a loss 0), with its interval: from wins and losses as
    from yes and no on one side alone, or, where outcomes are means over seeds, the bootstrap's.

    When all prompts came out alike, resampling them would claim certainty; Wilson's interval stands in then.
    """
    array = _array(outcomes)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"outcomes must be between 0 and 1, found {array.min()} to {array.max()}")
    if (array == array[0]).all():
        return Estimate(float(array[0]), *wilson(float(array.sum()), len(array)))
    if np.isin(array, (0.0, 0.5, 1.0)).all():
        found = discordant_interval(int((array == 1).sum()), int((array == 0).sum()), len(array))
        return Estimate(*((1 + bound) / 2 for bound in found))
    return bootstrap_mean(array, seed, n_boot)


class Crossed(NamedTuple):
    """A number over items and training seeds: its interval, its standard error and their share in it.

    `seed_share` is the part of the variance that comes from the seeds, None where no side has more than one.
    """

    value: float
    low: float
    high: float
    stderr: float
    seed_share: float | None


def over_seeds(a: np.ndarray, b: np.ndarray | None = None) -> Crossed:
    """Mean of `a` [seeds, items], or of `a - b` with `b` [its seeds, the same items], with both levels in the interval.

    The variance of the mean is that of the items' (differences of) means over seeds, plus for every side with several
    seeds that of its seeds' means over items. What both count twice, the noise of single cells, is left in: few seeds
    make it too uncertain to subtract. A side with one seed speaks for that seed alone. Raises ValueError for sides
    with different numbers of items, or fewer than two items.
    """
    sides = [_matrix(a)] if b is None else [_matrix(a), -_matrix(b)]
    if len({side.shape[1] for side in sides}) > 1:
        raise ValueError(f"the sides must have the same items, found {[side.shape[1] for side in sides]}")
    items = np.sum([side.mean(axis=0) for side in sides], axis=0)
    if len(items) < 2:
        raise ValueError(f"at least two items are needed, found {len(items)}")
    parts = [(float(items.var(ddof=1)) / len(items), len(items) - 1)]
    for side in sides:
        if len(side) > 1:
            parts.append((float(side.mean(axis=1).var(ddof=1)) / len(side), len(side) - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / df for part, df in parts) if variance else math.inf
    half = t_quantile(freedom) * math.sqrt(variance)
    value = float(items.mean())
    share = None if len(parts) == 1 else (1 - parts[0][0] / variance if variance else 0.0)
    return Crossed(value, value - half, value + half, math.sqrt(variance), share)


def items_needed(difference: float, deviation: float) -> int | None:
    """How many items it takes to tell a true `difference` from zero with 80% power, where an item's difference has the
    standard `deviation`. None for no difference, which no number of items tells from zero."""
    return math.ceil(((Z95 + Z80) * deviation / difference) ** 2) if difference else None


def detectable(deviation: float, n: int) -> float:
    """The difference that `n` items tell from zero with 80% power."""
    return (Z95 + Z80) * deviation / math.sqrt(n)


def paired_deviation(a: Values, b: Values) -> float:
    """Standard deviation of an item's difference. Where both sides are yes or no it is Bonett and Price's, which is not
    zero when no item differs."""
    first, second = _paired(a, b)
    if np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all():
        n = len(first)
        return _laplace(int((first > second).sum()), int((first < second).sum()), n)[1] * math.sqrt(n + 2)
    return float((first - second).std(ddof=1)) if len(first) > 1 else 0.0


@lru_cache(maxsize=256)
def t_quantile(freedom: float) -> float:
    """The 97.5% quantile of Student's t with `freedom` degrees of freedom (at least 1, not necessarily whole)."""
    if freedom > 1e6:
        return Z95
    freedom = max(freedom, 1.0)
    # t = sqrt(freedom) tan(angle): the density of the angle is proportional to cos(angle) ** (freedom - 1)
    angles = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(0.95, mass / mass[-1], angles)))


def mcnemar(a: Values | Sequence[bool], b: Values | Sequence[bool]) -> float:
    """Two-sided exact p-value that two classifiers are right equally often, from the items on which only one is right
    (McNemar, 1947): binomial, or, beyond EXACT_MCNEMAR of them, normal with continuity correction. 1.0 when they never
    differ."""
    first, second = (side.astype(bool) for side in _paired(a, b))
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    n, k = only_a + only_b, min(only_a, only_b)
    if n > EXACT_MCNEMAR:
        return math.erfc(max(0.0, abs(only_a - only_b) - 1) / math.sqrt(2 * n))
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def logistic_regression(design: np.ndarray, target: np.ndarray, ridge: float | np.ndarray = 1e-3) -> np.ndarray:
    """Coefficients [k] that maximize `sum(y log p + (1 - y) log(1 - p)) - sum(ridge / 2 w^2)`, p = sigmoid(design @ w).

    `design` [n, k], `target` [n] in 0..1 (shares are allowed), `ridge` one number or one a coefficient. Newton's method
    with step halving; the ridge keeps the answer finite when the data are separable. Raises ValueError when the shapes
    disagree.
    """
    if design.ndim != 2 or target.shape != design.shape[:1]:
        raise ValueError(f"design [n, k] and target [n] expected, found {design.shape} and {target.shape}")

    penalty = np.broadcast_to(np.asarray(ridge, dtype=float), design.shape[1:])

    def loss(weights: np.ndarray) -> float:
        logits = design @ weights
        return float(np.logaddexp(0, logits).sum() - target @ logits + (penalty / 2 * weights**2).sum())

    weights = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (p - target) + penalty * weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        size, before = 1.0, loss(weights)
        while loss(weights - size * step) > before and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return weights


def _laplace(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """Difference of the two shares, one item added to each, and its standard error."""
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    return a - b, math.sqrt((a + b - (a - b) ** 2) / (n + 2))


def _paired(a: Values | Sequence[bool], b: Values | Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    first, second = _array(a), _array(b)
    if len(first) != len(second):
        raise ValueError(f"paired values must be as many on both sides, found {len(first)} and {len(second)}")
    return first, second


def _matrix(values: np.ndarray) -> np.ndarray:
    array = np.atleast_2d(np.asarray(values, dtype=float))
    if array.ndim != 2 or not array.size:
        raise ValueError(f"values [seeds, items] expected, found shape {array.shape}")
    return array


def _array(values: Values) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"at least one value is needed, in one dimension; found shape {array.shape}")
    return array
