"""Intervals and comparisons for the study's numbers: pure functions of arrays, numpy only.

Every interval is a 95% one unless `z` says otherwise.

shares of yes            Wilson's interval, which stays inside 0..1 and has a width when every item went the same way
paired yes and no        Tango's score interval (1998) for the difference of two shares on the same items: all differences
                         that McNemar's test, put to them, would not reject. So it excludes zero where McNemar's p is
                         below 0.05 and nowhere else, and it has a width where no item differs
means, other differences the percentile bootstrap (Efron, 1979) over items, with a fixed seed: the same values always give
                         the same interval
several training seeds   items and seeds are crossed random effects: another draw of either would move the number. A
                         bootstrap over three seeds would claim too much (it knows three values), so the two variances
                         are estimated by the analysis of variance, each is multiplied by the square of its own quantile
                         of Student's t, and they are added (Howe, 1974; two or three trainings have the heavy tail, and
                         hundreds of items do not); a share has Wilson's interval at the number of items that would make
                         for that width

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


def wilson(successes: float, n: float, z: float = Z95) -> tuple[float, float]:
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
    """Mean of `a - b` item by item, with its interval: Tango's where both sides are yes or no, else the bootstrap's.
    Pairing takes out what the items have in common, so it sees differences that the two means' own intervals hide.
    Raises ValueError for different lengths."""
    first, second = _paired(a, b)
    if np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all():
        return discordant_interval(int((first > second).sum()), int((first < second).sum()), len(first))
    return bootstrap_mean(first - second, seed, n_boot)


def discordant_interval(only_a: int, only_b: int, n: int, z: float = Z95) -> Estimate:
    """Difference `(only_a - only_b) / n` of two shares of yes among the same `n` items, `only_a` and `only_b` of which
    said yes on one side alone, with Tango's score interval. Raises ValueError for more of them than items."""
    if min(only_a, only_b) < 0 or only_a + only_b > n or n == 0:
        raise ValueError(f"at most n items can differ, found {only_a} and {only_b} of {n}")
    value = (only_a - only_b) / n

    def bound(end: float) -> float:
        inside, outside = value, end
        for _ in range(60):
            middle = (inside + outside) / 2
            within = _score(only_a, only_b, n, middle) <= z * z
            inside, outside = (middle, outside) if within else (inside, middle)
        return inside

    return Estimate(value, bound(-1.0), bound(1.0))


def _score(only_a: int, only_b: int, n: int, difference: float) -> float:
    """The square of Tango's statistic: how far the shares are from a true `difference`, in standard errors at the most
    likely shares that have it. At a difference of zero it is McNemar's."""
    linear = (2 * n - only_a + only_b) * difference - only_a - only_b
    constant = only_b * difference * (1 - difference)
    share_b = (math.sqrt(max(0.0, linear**2 + 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * share_b + difference * (1 - difference))
    distance = only_a - only_b - n * difference
    if variance <= 0:
        return math.inf if distance else 0.0
    return distance**2 / variance


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
    """A number over items and training seeds: its interval, its standard error, how many of them the interval reaches to
    either side, and the seeds' share in the variance (None where no side has more than one)."""

    value: float
    low: float
    high: float
    stderr: float
    reach: float
    seed_share: float | None


def over_seeds(a: np.ndarray, b: np.ndarray | None = None) -> Crossed:
    """Mean of `a` [seeds, items], or of `a - b` with `b` [its seeds, the same items], with both levels in the interval.

    The variance of the mean is that of the items' (differences of) means over seeds, plus that of the seeds' means over
    items on every side that has several, less the noise of single cells, which both hold; never less than the items'
    own. Where both sides say yes or no, two items that differ are added, one each way (Bonett and Price, 2012): no number
    of items that agree makes two policies the same. A side with one seed speaks for that seed alone. Raises ValueError
    for sides with different numbers of items, or fewer than two items.
    """
    sides = [_matrix(a)] if b is None else [_matrix(a), -_matrix(b)]
    if len({side.shape[1] for side in sides}) > 1:
        raise ValueError(f"the sides must have the same items, found {[side.shape[1] for side in sides]}")
    items = np.sum([side.mean(axis=0) for side in sides], axis=0)
    if len(items) < 2:
        raise ValueError(f"at least two items are needed, found {len(items)}")
    value = center = float(items.mean())
    of_items, farthest = float(items.var(ddof=1)) / len(items), math.inf
    if b is not None and all(np.isin(np.abs(side), (0.0, 1.0)).all() for side in sides):
        farthest, (center, of_items) = 1.0, _with_two_more(items)
    of_seeds, freedom = _of_seeds([side for side in sides if len(side) > 1])
    variance = of_items + of_seeds
    square = t_quantile(len(items) - 1) ** 2 * of_items + t_quantile(freedom) ** 2 * of_seeds
    half, reach = math.sqrt(square), math.sqrt(square / variance) if variance else Z95
    share = None if all(len(side) == 1 for side in sides) else (of_seeds / variance if variance else 0.0)
    low, high = max(-farthest, min(value, center - half)), min(farthest, max(value, center + half))
    return Crossed(value, low, high, math.sqrt(variance), reach, share)


def share_over_seeds(values: np.ndarray) -> Crossed:
    """Mean of `values` [seeds, items] between 0 and 1, with both levels in an interval that stays between 0 and 1.

    Wilson's, for as many items as would make for the variance of `over_seeds` (Korn and Graubard, 1998), reaching as
    many standard errors. Where all values are alike nothing can be estimated, and the items are counted. Raises
    ValueError for values outside 0..1 and fewer than two items.
    """
    array = _matrix(values)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"values must be between 0 and 1, found {array.min()} to {array.max()}")
    found = over_seeds(array)
    spread, variance = found.value * (1 - found.value), found.stderr**2
    n = spread / variance if spread and variance else float(array.shape[1])
    low, high = wilson(min(found.value, 1.0) * n, n, found.reach)
    return found._replace(low=low, high=high)


def _of_seeds(sides: Sequence[np.ndarray]) -> tuple[float, float]:
    """The variance of the mean that comes from the seeds of all sides, with its degrees of freedom (Satterthwaite's): that
    of their means, less what the noise of single cells contributes; 0 where the noise explains all of it."""
    means, noise = [], 0.0
    for side in sides:
        seeds, items = side.shape
        residual = side - side.mean(axis=0) - side.mean(axis=1, keepdims=True) + side.mean()
        means.append((float(side.mean(axis=1).var(ddof=1)) / seeds, seeds - 1))
        noise += float((residual**2).sum()) / ((seeds - 1) * (items - 1)) / items / seeds
    whole = sum(part for part, _ in means)
    freedom = whole**2 / sum(part**2 / df for part, df in means) if whole else math.inf
    return max(0.0, whole - noise), freedom


def _with_two_more(differences: np.ndarray) -> tuple[float, float]:
    """Mean of the items' differences and its variance, after one item was added that differs by 1 and one by -1."""
    n = len(differences) + 2
    mean = float(differences.sum()) / n
    return mean, (float((differences**2).sum() + 2) / n - mean**2) / n


def items_needed(difference: float, deviation: float) -> int | None:
    """How many items it takes to tell a true `difference` from zero with 80% power, where an item's difference has the
    standard `deviation`. None for no difference, which no number of items tells from zero."""
    return math.ceil(((Z95 + Z80) * deviation / difference) ** 2) if difference else None


def detectable(deviation: float, n: int) -> float:
    """The difference that `n` items tell from zero with 80% power."""
    return (Z95 + Z80) * deviation / math.sqrt(n)


def paired_deviation(a: Values, b: Values) -> float:
    """Standard deviation of an item's difference. Where both sides are yes or no it is Bonett and Price's (2012: one item
    is added to each side), which is not zero when no item differs."""
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
    """Two-sided p-value that two classifiers are right equally often, from the items on which only one is right (McNemar,
    1947, without continuity correction: the exact test on as few items as a study has rejects in one case of a hundred
    where it should in five). 1.0 when they never differ."""
    first, second = (side.astype(bool) for side in _paired(a, b))
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    return math.erfc(abs(only_a - only_b) / math.sqrt(2 * (only_a + only_b))) if only_a + only_b else 1.0


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
