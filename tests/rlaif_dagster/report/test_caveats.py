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
    caveat, same_judge = caveats(Evidence(wins=wins), {})
    assert caveat.startswith("DPO wins 70% against base, but only 48% at equal length")
    assert same_judge.startswith("The judge of the head-to-head also chose the training pairs.")


def test_a_preference_between_the_policies_that_turns_at_equal_length_is_named() -> None:
    ppo = WinRate(Estimate(0.6, 0.48, 0.72, 64), 37, 24, 3, 0.37)
    said = caveats(Evidence(wins={("ppo", "dpo"): ppo, ("dpo", "ppo"): ppo.reversed()}), {})
    assert said[0].startswith("The judge preferred PPO to DPO on 60% of prompts, but on 37% at equal length")


def test_arms_that_answered_different_items_are_named() -> None:
    levels = {arm: Estimate(0.5, 0.4, 0.6, 72) for arm in ("base", "dpo")}
    suite = Measure("m", "MMLU", "alignment", levels, {("dpo", "base"): Estimate(0, -0.1, 0.1, 66)})
    (caveat,) = caveats(Evidence(suites=(suite,)), {})
    assert caveat.startswith("The arms did not answer the same items of MMLU: only 66 of 72 are shared")


def test_the_chance_of_a_false_alarm_among_many_differences_is_told() -> None:
    def suite(name: str, low: float) -> Measure:
        found = {(arm, "base"): Estimate(0.1, low, 0.2, 64) for arm in ("dpo", "ppo")}
        return Measure(name, name, "alignment", {}, found)

    (caveat,) = caveats(Evidence(suites=(suite("A", 0.01), suite("B", -0.1))), {})
    assert "4 differences against base" in caveat
    assert caveat.endswith("would still be up to 19%.")  # 1 - 0.95^4 = 0.185
    assert caveats(Evidence(suites=(suite("A", -0.1), suite("B", -0.1))), {}) == []


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
