"""Calibration against numbers worked out by hand and against its definition, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rlaif_dagster.training.calibration import calibration, confidence, right


def test_three_pairs_by_hand() -> None:
    # sigmoid(log 3) = 0.75, sigmoid(log 19) = 0.95; the third is wrong with confidence 0.95
    margins = np.log([3.0, 19.0, 1 / 19])
    assert confidence(margins) == pytest.approx([0.75, 0.95, 0.95])
    assert right(margins).tolist() == [1, 1, 0]
    values = calibration(margins)
    # bins of a tenth: [0.7, 0.8) holds one pair, 0.25 off; [0.9, 1] two, half right against 0.95
    assert values["calibration_error"] == pytest.approx(0.25 / 3 + 2 / 3 * 0.45)
    assert values["brier"] == pytest.approx((0.0625 + 0.0025 + 0.9025) / 3)
    assert values["log_loss"] == pytest.approx(-(math.log(0.75) + math.log(0.95) + math.log(0.05)) / 3)
    assert values["reliability_70_80_pairs"] == 1
    assert values["reliability_90_100_pairs"] == 2
    assert values["reliability_90_100_confidence"] == pytest.approx(0.95)
    assert values["reliability_90_100_right"] == 0.5
    assert "reliability_50_60_pairs" not in values


def test_ties_and_certainty() -> None:
    values = calibration(np.array([0.0, 1000.0]))
    assert values["calibration_error"] == pytest.approx(0.0)  # a tie is right half the time, as sure as it claims
    assert calibration(np.array([-1000.0]))["calibration_error"] == pytest.approx(1.0)


def test_a_model_that_is_as_right_as_it_claims_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    claimed = rng.uniform(0.5, 1, 100_000)
    margins = np.log(claimed / (1 - claimed)) * np.where(rng.random(100_000) < claimed, 1, -1)
    assert calibration(margins)["calibration_error"] < 0.01
    assert calibration(4 * margins)["calibration_error"] > 0.1  # the same ranking, too sure of itself


def test_against_the_definition() -> None:
    margins = np.random.default_rng(1).normal(size=300) * 2
    sure, correct = confidence(margins), right(margins)
    expected = 0.0
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        own = [place for place, value in enumerate(sure) if low <= value < low + 0.1 or (low == 0.9 and value == 1)]
        if own:
            expected += abs(sum(correct[place] - sure[place] for place in own)) / 300
    assert calibration(margins)["calibration_error"] == pytest.approx(expected, abs=1e-6)
