"""The KL coefficient: fixed, or steered towards a target."""

from __future__ import annotations


def next_coefficient(coefficient: float, observed_kl: float, target: float | None, *, rate: float = 0.1) -> float:
    """The coefficient of the next update, after a batch whose mean KL was `observed_kl` nats a response.

    Without a target it stays. With one it is multiplied by 1 + rate * clip(observed / target - 1, -0.2, 0.2), the
    proportional controller of arXiv 1909.08593 (section 2.2).
    """
    if target is None:
        return coefficient
    error = min(max(observed_kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + rate * error)
