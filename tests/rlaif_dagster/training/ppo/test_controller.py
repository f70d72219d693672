"""The KL coefficient moves towards its target by at most two percent an update."""

from __future__ import annotations

import pytest

from rlaif_dagster.training.ppo.controller import next_coefficient


@pytest.mark.parametrize(
    ("observed", "target", "expected"),
    [
        (50.0, None, 0.2),  # fixed
        (6.0, 6.0, 0.2),
        (6.6, 6.0, 0.2 * 1.01),  # ten percent over: a tenth of that
        (60.0, 6.0, 0.2 * 1.02),  # limited
        (0.0, 6.0, 0.2 * 0.98),
        (-3.0, 6.0, 0.2 * 0.98),  # a negative estimate is no reason to turn the sign
    ],
)
def test_next_coefficient(observed: float, target: float | None, expected: float) -> None:
    assert next_coefficient(0.2, observed, target) == pytest.approx(expected)
