from __future__ import annotations

import pandas as pd

from rlaif_dagster.report.caveats import caveats
from rlaif_dagster.report.estimate import Estimate
from rlaif_dagster.report.evidence import Evidence, Measure, WinRate


def test_a_suite_at_chance_cannot_show_a_loss() -> None:
    suite = Measure("mmlu", "MMLU", "capability", {"base": Estimate(0.28, 0.2, 0.37, 72)}, chance=0.25)
    assert caveats(Evidence(suites=(suite,)), {}) == [
        "Base is not clearly above guessing on MMLU (28%, guessing gives 25%), so a loss could hardly show there."
    ]


def test_a_saturated_control_leaves_nothing_to_add() -> None:
    measure = Measure("a", "greedy adherence", "target", {"sft": Estimate(0.97, 0.9, 0.99, 64)})
    assert caveats(Evidence(adherence=(measure,)), {}) == [
        "SFT alone reaches 97% greedy adherence: little is left for DPO and PPO to add."
    ]


def test_wins_that_vanish_at_equal_length_are_named() -> None:
    wins = {("dpo", "base"): WinRate(Estimate(0.7, 0.6, 0.8, 64), 45, 19, 0, 0.48)}
    (caveat,) = caveats(Evidence(wins=wins), {})
    assert caveat.startswith("DPO wins 70% against base, but only 48% at equal length")


def test_a_judge_no_better_than_length_or_full_of_failures_is_named() -> None:
    agreement = pd.DataFrame([{"dataset": "pku", "n": 60, "accuracy": 0.6, "ci_low": 0.47, "longest_baseline": 0.45}])
    judgments = pd.DataFrame({"verdict": ["a"] * 9 + ["unparseable"]})
    assert caveats(Evidence(), {"judge_agreement": agreement, "judgments": judgments}) == [
        "On pku (60 pairs) the judge agrees with the labels on 60%, which is not clearly above 50%, what a coin or always choosing "
        "the longer answer gets.",
        "The judge gave no usable verdict in 10% of 10 cases.",
    ]


def test_one_seed_is_said_to_be_one() -> None:
    (caveat,) = caveats(Evidence(seeds={"base": 1, "dpo": 3, "ppo": 1}), {})
    assert caveat.startswith("PPO was trained with one seed")
