"""Intervals and comparisons for the study's numbers: pure functions of arrays, numpy only.

Every interval is a 95% one unless `z` says otherwise. Shares of successes get Wilson's interval, which stays inside
0..1 and has a width when every item went the same way; means and differences get the percentile bootstrap (Efron, 1979)
over items with a fixed seed, so the same values always give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z95 = 1.959963984540054
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
    """Mean of `a - b` item by item, with its bootstrap interval. Pairing takes out what the items have in common, so it
    sees differences that the two means' own intervals hide. Raises ValueError for different lengths."""
    first, second = _array(a), _array(b)
    if len(first) != len(second):
        raise ValueError(f"paired values must be as many on both sides, found {len(first)} and {len(second)}")
    return bootstrap_mean(first - second, seed, n_boot)


def win_rate_interval(outcomes: Values, seed: int = 0, n_boot: int = RESAMPLES) -> Estimate:
    """Win rate over prompts, each outcome in 0..1 (a win 1, a tie 0.5, a loss 0), with its bootstrap interval.

    When all prompts came out alike, resampling them would claim certainty; Wilson's interval stands in then.
    """
    array = _array(outcomes)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"outcomes must be between 0 and 1, found {array.min()} to {array.max()}")
    if (array == array[0]).all():
        return Estimate(float(array[0]), *wilson(float(array.sum()), len(array)))
    return bootstrap_mean(array, seed, n_boot)


def mcnemar(a: Sequence[bool] | np.ndarray, b: Sequence[bool] | np.ndarray) -> float:
    """Two-sided exact p-value that two classifiers are right equally often, from the items on which only one is right
    (McNemar, 1947; binomial, no approximation). 1.0 when they never differ."""
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if len(first) != len(second):
        raise ValueError(f"paired values must be as many on both sides, found {len(first)} and {len(second)}")
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    n, k = only_a + only_b, min(only_a, only_b)
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


def _array(values: Values) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"at least one value is needed, in one dimension; found shape {array.shape}")
    return array
