"""One shard beside two: how the figures are put together, and a small measurement on real Ray."""

from __future__ import annotations

import json

import pytest

from bench.measurement import WrongResult
from bench.scale import compare, summary

FIXED = {"concurrency": 32, "latency": 1.0, "start_s": 3.0, "step_overhead_s": 4.0}


def test_figures_by_hand() -> None:
    taken = {side: {"wall": wall, "answers": ["x"] * 1280} for side, wall in (("here", 41), ("one", 44), ("two", 25))}
    content = json.loads(summary(taken, verdicts=1280, **FIXED).line())
    assert content["ratios"] == {"speed_up": 1.76, "seconds": 0.5682}
    assert content["ours"]["shard_overhead_s"] == 3
    assert content["ours"]["of_ideal"] == 0.8
    assert content["peer"]["of_ideal"] == 0.9091


def test_a_lost_answer_stops_the_comparison() -> None:
    taken = {side: {"wall": 1.0, "answers": ["x"] * n} for side, n in (("here", 2), ("one", 2), ("two", 1))}
    with pytest.raises(WrongResult, match=r"of 2 answers the sides have \[2, 2, 1\]"):
        summary(taken, verdicts=2, **FIXED)


@pytest.mark.slow
def test_a_small_measurement() -> None:
    found = compare(concurrency=4, latency=0.5, rounds=4)
    assert found.ours["verdicts"] == 16
    assert found.ours["without_ray_s"] >= 2
    assert found.ours["step_overhead_s"] > 0
