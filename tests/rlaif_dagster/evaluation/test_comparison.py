"""Comparisons of arms: what is said, on studies whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlaif_dagster.evaluation.comparison import compare, comparisons, levels
from rlaif_dagster.statistics import discordant_interval, mcnemar, over_seeds, wilson


def table(scores: dict[tuple[str, int], list[float]], task: str = "quiz", metric: str = "acc") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "task": task, "metric": metric, "item_id": f"i{number}", "score": score,
             "category": "odd" if number % 2 else "even"}
            for (arm, seed), own in scores.items() for number, score in enumerate(own)
        ]
    )  # fmt: skip


def test_better_by_hand() -> None:
    a, b = np.array([1.0] * 10 + [0.0] * 2 + [1.0] * 20), np.array([0.0] * 10 + [1.0] * 2 + [1.0] * 20)
    found = compare(a, b)
    assert found.difference == discordant_interval(10, 2, 32)
    assert (found.a, found.b, found.n, found.standing) == (30 / 32, 22 / 32, 32, "better")
    # (10 - 2)^2 / 12 = 5.333
    assert found.p_value == mcnemar(a, b) == pytest.approx(0.0209, abs=1e-4)
    assert compare(b, a).standing == "worse"
    assert found.sentence("DPO", "base", "quiz").startswith(
        "DPO is better than base on quiz: +25.0 points (95% interval "
    )
    assert "McNemar p = 0.021, n = 32)." in found.sentence("DPO", "base", "quiz")


def test_identical_arms_are_not_distinguishable() -> None:
    rng = np.random.default_rng(0)
    for scores in (rng.integers(0, 2, 64).astype(float), rng.random(64)):
        found = compare(scores, scores.copy())
        assert found.standing == "not distinguishable"
        assert found.difference.value == 0
        assert found.n_needed is None
        assert "a and b are not distinguishable on x at n = 64: +0.0 points" in found.sentence("a", "b", "x")
    assert "Both gave the same on every item." in found.sentence("a", "b", "x")


def test_the_n_it_would_take_is_enough() -> None:
    """With that many items, four of five studies find the difference; with a quarter, few do."""
    rng = np.random.default_rng(1)

    def study(n: int) -> tuple[np.ndarray, np.ndarray]:
        shared = rng.random(n)
        b = (shared < 0.5).astype(float)
        return np.where(rng.random(n) < 0.1, 1.0, b), b  # a is right on a tenth of what b gets wrong: 5 points

    needed = [found.n_needed for found in (compare(*study(2000)) for _ in range(20))]
    n = int(np.median([one for one in needed if one]))
    assert 130 < n < 220
    power = [np.mean([compare(*study(many)).standing == "better" for _ in range(300)]) for many in (n, n // 4)]
    assert power[0] > 0.7
    assert power[1] < 0.5
    small = compare(*study(40))
    assert small.n_needed is not None
    assert f"would take about {round(small.n_needed, -1)} items." in small.sentence("a", "b", "x")
    assert f"shown a difference of {100 * small.detectable:.1f} points." in small.sentence("a", "b", "x")


def test_seeds_are_a_level_of_their_own() -> None:
    """Three trainings that land far apart: the items alone would call the method better."""
    rng = np.random.default_rng(2)
    base = rng.integers(0, 2, 400).astype(float)
    trained = np.stack([np.clip(base + (rng.random(400) < share), 0, 1) for share in (0.0, 0.02, 0.3)])
    found = compare(trained, base)
    assert found.seeds == (3, 1)
    assert found.p_value is None
    assert found.standing == "not distinguishable"
    assert compare(trained.mean(0), base).standing == "better"
    assert (found.difference.low, found.difference.high) == over_seeds(trained, base[None])[1:3]
    said = found.sentence("PPO", "base", "quiz")
    assert "seeds 3 against 1" in said
    assert "more seeds would tell more" in said


def test_every_two_arms_by_task_and_category() -> None:
    scores = {
        ("base", 0): [0.0] * 40, ("dpo", 0): [1.0] * 40, ("ppo", 0): [1.0] * 40, ("ppo", 1): [0.0, 1.0] * 20,
    }  # fmt: skip
    found = comparisons(table(scores))
    assert list(found["arm_a"] + found["arm_b"])[:3] == ["dpobase", "ppobase", "ppodpo"]
    assert set(found["category"].dropna()) == {"odd", "even"}
    whole = found[found["category"].isna()].set_index(["arm_a", "arm_b"])
    assert whole.loc[("ppo", "base"), "difference"] == 0.75
    assert (whole["n"] == 40).all()
    assert whole.loc[("dpo", "base"), "standing"] == "better"
    by = found.set_index(["category", "arm_a", "arm_b"])
    assert by.loc[("odd", "ppo", "base"), "difference"] == 1.0
    assert by.loc[("even", "ppo", "base"), "difference"] == 0.5
    assert "on quiz acc, odd" in by.loc[("odd", "dpo", "base"), "sentence"]


def test_levels_and_missing_items() -> None:
    scores = {("base", 0): [1.0, 0.0, 1.0, 1.0], ("dpo", 0): [1.0, 1.0, 0.0, 1.0], ("dpo", 1): [1.0, 1.0, 1.0, 0.0]}
    items = table(scores)
    found = levels(items)
    assert found["base"] == ((0.75, *wilson(3, 4)), 4)
    assert found["dpo"][0].value == 0.75
    lacking = items[~((items["seed"] == 1) & (items["item_id"] == "i3"))]
    row = comparisons(lacking.assign(category=None)).iloc[0]
    assert row["n"] == 3  # an item that a seed lacks is compared by nobody
    assert comparisons(items[items["item_id"] == "i0"]).empty
