from __future__ import annotations

from dataclasses import replace

import pytest

from rlaif_dagster.report.estimate import Estimate
from rlaif_dagster.report.evidence import Evidence, Measure, WinRate, gather
from rlaif_dagster.report.verdict import findings, standing, verdict
from tests.rlaif_dagster.report.study import study_tables


def differences(**by_pair: tuple[float, float, float]) -> dict[tuple[str, str], Estimate]:
    """`dpo_base=(0.1, 0.02, 0.2)` and its mirror image."""
    out = {}
    for pair, (value, low, high) in by_pair.items():
        a, b = pair.split("_")
        out[a, b], out[b, a] = Estimate(value, low, high, 64), Estimate(-value, -high, -low, 64)
    return out


def measure(name: str, kind: str, levels: dict[str, float], **by_pair: tuple[float, float, float]) -> Measure:
    estimates = {arm: Estimate(level, level - 0.1, level + 0.1, 64) for arm, level in levels.items()}
    return Measure(name, name, kind, estimates, differences(**by_pair))  # type: ignore[arg-type]


def wins(**by_pair: tuple[float, float, float]) -> dict[tuple[str, str], WinRate]:
    out = {}
    for pair, (value, low, high) in by_pair.items():
        a, b = pair.split("_")
        one = WinRate(Estimate(value, low, high, 100), round(100 * value), 100 - round(100 * value), 0, None)
        out[a, b], out[b, a] = one, one.reversed()
    return out


def test_says_who_did_better_what_was_gained_and_what_was_lost() -> None:
    adherence = measure(
        "greedy adherence", "target", {"base": 0.0, "sft": 0.4, "dpo": 0.9, "ppo": 0.7},
        dpo_ppo=(0.2, 0.1, 0.3), dpo_base=(0.9, 0.8, 1.0), ppo_base=(0.7, 0.6, 0.8),
        dpo_sft=(0.5, 0.4, 0.6), ppo_sft=(0.3, 0.2, 0.4),
    )  # fmt: skip
    truthful = measure("TruthfulQA", "alignment", {}, dpo_base=(0.06, 0.01, 0.11), ppo_base=(0.01, -0.04, 0.06))
    mmlu = measure("MMLU", "capability", {"base": 0.5}, dpo_base=(-0.01, -0.05, 0.03), ppo_base=(-0.08, -0.14, -0.02))

    said = verdict(Evidence((adherence,), (truthful, mmlu), wins(dpo_ppo=(0.5, 0.4, 0.6))))

    assert said.sentence == (
        "DPO did better than PPO: greedy adherence 90% against 70% (+20 points, +10 to +30), though the judge does not tell "
        "them apart; both beat base and SFT (greedy adherence: base 0%, SFT 40%, DPO 90%, PPO 70%); against base, DPO gained "
        "6 points on TruthfulQA (+1 to +11); the price in capability: PPO lost 8 points on MMLU (−14 to −2)."
    )


def test_says_so_when_neither_beats_base_as_in_the_published_run() -> None:
    mmlu = measure("MMLU", "capability", {"base": 0.5}, dpo_base=(-0.01, -0.05, 0.03), ppo_base=(-0.01, -0.05, 0.04))
    lost = wins(dpo_ppo=(0.97, 0.93, 0.99), dpo_base=(0.46, 0.36, 0.56), ppo_base=(0.001, 0.0, 0.03), dpo_sft=(0.4, 0.3, 0.49),
                ppo_sft=(0.01, 0.0, 0.04))  # fmt: skip

    said = verdict(Evidence((), (mmlu,), lost))

    assert said.better == "DPO did better than PPO: the judge preferred DPO to PPO on 97% of prompts (93 to 99%)"
    assert said.gained == (
        "DPO is not distinguishable from base and PPO fell below base, and both fell below SFT "
        "(win rate against base: DPO 46%, PPO 0%)"
    )
    assert said.lost == "no loss of capability is distinguishable on MMLU (64 items)"


def test_calls_overlapping_arms_not_distinguishable() -> None:
    adherence = measure("greedy adherence", "target", {"dpo": 0.91, "ppo": 0.94}, dpo_ppo=(-0.03, -0.12, 0.05))
    said = verdict(Evidence((adherence,), (), wins(dpo_ppo=(0.45, 0.34, 0.57))))
    assert said.better == (
        "DPO and PPO are not distinguishable at this n: greedy adherence 91% against 94% (−3 points, −12 to +5) and the judge "
        "preferred DPO to PPO on 45% of prompts (34 to 57%)"
    )
    # standard error (0.05 + 0.12) / 2 / 1.96 = 0.0434; times 1.96 + 0.84 it is 12 points, and 64 (12.15 / 3)^2 = 1,050
    assert said.reach[0] == (
        "greedy adherence: 64 prompts reveal differences from 12 points up (80% power); "
        "to confirm the 3 seen would take about 1,000"
    )


def test_a_difference_that_only_one_of_several_measures_shows_is_a_leaning() -> None:
    greedy = measure("greedy adherence", "target", {"dpo": 0.7, "ppo": 0.8}, dpo_ppo=(-0.1, -0.19, -0.01))
    sampled = measure("sampled adherence", "target", {"dpo": 0.5, "ppo": 0.5}, dpo_ppo=(0.0, -0.1, 0.1))
    alone, among = verdict(Evidence((greedy,))), verdict(Evidence((greedy, sampled)))
    assert alone.claim == "PPO did better than DPO"
    assert among.claim == "DPO and PPO are not distinguishable at this n"
    assert among.because.endswith("greedy adherence leans to PPO, no more than a hint when 2 measures are looked at")


def test_a_claim_that_rests_on_one_run_of_each_says_so() -> None:
    greedy = measure("greedy adherence", "target", {"dpo": 0.7, "ppo": 0.9}, dpo_ppo=(-0.2, -0.3, -0.1))
    assert (
        verdict(Evidence((greedy,), seeds={"dpo": 1, "ppo": 1})).claim
        == "PPO did better than DPO, one training run each"
    )
    assert verdict(Evidence((greedy,), seeds={"dpo": 3, "ppo": 3})).claim == "PPO did better than DPO"


def test_what_alignment_was_lost_is_no_gain() -> None:
    safety = measure("PKU-SafeRLHF", "alignment", {}, ppo_base=(-0.09, -0.19, -0.02), dpo_base=(0, -0.1, 0.1))
    said = verdict(Evidence((), (safety,)))
    assert said.gained.endswith("no gain is distinguishable on PKU-SafeRLHF")
    assert said.lost.startswith("the price in alignment: PPO lost 9 points on PKU-SafeRLHF (−19 to −2); ")


def test_a_second_metric_of_a_suite_has_no_say() -> None:
    extra = replace(measure("HellaSwag, unnormalized", "capability", {}, dpo_base=(-0.2, -0.3, -0.1)), headline=False)
    assert verdict(Evidence((), (extra,))).lost == "what capability was lost was not measured"


def test_names_both_sides_of_a_contradiction() -> None:
    adherence = measure("greedy adherence", "target", {"dpo": 0.9, "ppo": 0.7}, dpo_ppo=(0.2, 0.1, 0.3))
    evidence = Evidence((adherence,), (), wins(dpo_ppo=(0.3, 0.2, 0.4)))
    assert verdict(evidence).better == (
        "DPO and PPO each did better on one count: for DPO, greedy adherence 90% against 70% (+20 points, +10 to +30); "
        "for PPO, the judge preferred PPO to DPO on 70% of prompts (60 to 80%)"
    )


def test_without_any_measurement_claims_nothing() -> None:
    assert verdict(Evidence()).sentence == (
        "DPO and PPO were not compared; neither was compared with base or SFT; what capability was lost was not measured."
    )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (0.0, 0.2, "even"), (-0.1, 0.1, "even")],
)
def test_an_interval_that_touches_zero_is_no_difference(low: float, high: float, expected: str) -> None:
    one = measure("greedy adherence", "target", {"dpo": 0.5, "base": 0.5}, dpo_base=((low + high) / 2, low, high))
    assert standing(findings(Evidence((one,)), "dpo", "base")) == expected


def test_reads_a_whole_cell() -> None:
    said = verdict(gather(study_tables()))
    assert said.better.startswith(
        "PPO did better than DPO, one training run each: sampled adherence 88% against 62% (+25 points"
    )
    assert "greedy adherence: base 0%, SFT 47%, DPO 91%, PPO 94%" in said.gained
    assert said.lost == "no loss of capability is distinguishable on HellaSwag mini (64 items) and MMLU mini (72 items)"
