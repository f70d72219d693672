"""Does a reward model's margin mean the probability that it claims?

Bradley-Terry reads a margin m as P(chosen is better) = sigmoid(m). The model's *confidence* in a pair is the probability of the
answer that it ranks first, max(sigmoid(m), sigmoid(-m)), at least one half; it is *right* where that answer is the chosen one.
Calibrated means: of the pairs with confidence near c, a share c is right.

    expected calibration error = sum over bins of (pairs in the bin / pairs) * |share right - mean confidence|

over bins of equal width in [1/2, 1] (arXiv 1706.04599). With few pairs it is biased upwards: of 24 perfectly calibrated ones
it is about 0.1.
"""

from __future__ import annotations

import numpy as np

BINS = 5


def confidence(margins: np.ndarray) -> np.ndarray:
    """Probability [n] of the answer that is ranked first, from reward margins [n]."""
    return np.asarray(1 / (1 + np.exp(-np.abs(margins))))


def right(margins: np.ndarray) -> np.ndarray:
    """1 [n] where the chosen answer is ranked first, 1/2 where both get the same."""
    return np.asarray(np.where(margins > 0, 1.0, np.where(margins == 0, 0.5, 0.0)))


def calibration(margins: np.ndarray, bins: int = BINS) -> dict[str, float]:
    """Of n >= 1 margins (chosen less rejected): calibration_error, brier (mean squared error of sigmoid), log_loss (nats), and for
    each bin that holds pairs its pairs, mean confidence and share right, as reliability_LOW_HIGH_pairs and so on (percent)."""
    sure, correct = confidence(margins), right(margins)
    edges = np.linspace(0.5, 1.0, bins + 1)
    place = np.minimum(np.searchsorted(edges, sure, side="right") - 1, bins - 1)
    error = 0.0
    rows: dict[str, float] = {}
    for number in np.unique(place):
        own = place == number
        gap = float(correct[own].mean() - sure[own].mean())
        error += own.mean() * abs(gap)
        name = f"reliability_{100 * edges[number]:.0f}_{100 * edges[number + 1]:.0f}"
        rows |= {
            f"{name}_pairs": float(own.sum()), f"{name}_confidence": float(sure[own].mean()),
            f"{name}_right": float(correct[own].mean()),
        }  # fmt: skip
    return {
        "calibration_error": float(error),
        "brier": float((np.where(margins >= 0, 1 - sure, sure) ** 2).mean()),
        "log_loss": float(np.logaddexp(0, -margins).mean()),
        **rows,
    }
