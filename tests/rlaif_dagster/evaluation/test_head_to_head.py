"""Wins, ties, seeds and lengths, with a judge whose verdicts are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rlaif_dagster.evaluation.duels import Duel, judge_duels
from rlaif_dagster.evaluation.head_to_head import complete, head_to_head, length_controlled, meetings, outcome, pooled
from rlaif_dagster.judging.verdicts import Order, Pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Judging
from rlaif_dagster.statistics import share_over_seeds, wilson
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, to_arrow
from tests.rlaif_dagster.evaluation.rule_judge import RuleJudge, marks

LOUD = Constitution.model_validate({"principles": [{"id": "loud", "text": "Be as loud as you can."}]})
RECIPE = Judging(judge="rule")
PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["p1", "p2", "p3", "p4", "q"],
        "split": ["eval"] * 4 + ["qualitative"],
        "text": ["one?", "two?", "three?", "four?", "not here?"],
    }
)


def responses(answers: dict[tuple[str, int], list[str]], decoding: str = "greedy") -> pd.DataFrame:
    rows = [
        (arm, seed, f"p{number}", text, len(text.split()), decoding)
        for (arm, seed), texts in answers.items()
        for number, text in enumerate(texts, start=1)
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "prompt_id", "text", "tokens", "decoding"])


def test_counts_by_hand() -> None:
    greedy = responses({("base", 0): ["a", "b!", "c", "d "], ("dpo", 0): ["a!", "b", "x", "d"]})
    noise = responses({("base", 0): ["!!!"] * 4, ("dpo", 0): ["."] * 4}, decoding="sampled")
    judge = RuleJudge(marks)
    found = head_to_head(pd.concat([greedy, noise]), PROMPTS, LOUD, RECIPE, judge)
    row = found.iloc[0]
    assert (row["arm_a"], row["arm_b"]) == ("dpo", "base")
    # dpo wins p1 and loses p2; p3 is a tie by the judge, p4 the same text and never asked
    assert (row["wins_a"], row["wins_b"], row["ties"], row["win_rate"]) == (1, 1, 2, 0.5)
    assert {pair.prompt_id for pair in judge.pairs} == {"p1", "p2", "p3"}
    assert 0 <= row["ci_low"] < 0.5 < row["ci_high"] <= 1
    assert to_arrow(TABLES["head_to_head"], found, Cell("m", "c")).num_rows == 2
    # one seed a side: what is pooled is the one meeting of seeds, which has a row of its own
    seeds = found[["seed_a", "seed_b"]]
    assert seeds.iloc[0].isna().all()
    assert seeds.iloc[1].tolist() == [0, 0]
    pd.testing.assert_frame_equal(found.iloc[:1].drop(columns=seeds), found.iloc[1:].drop(columns=seeds).set_axis([0]))


def test_every_two_arms_once_the_later_first() -> None:
    arms = ("ppo", "base", "dpo", "sft")
    found = pooled(head_to_head(responses({(arm, 0): [arm] for arm in arms}), PROMPTS, LOUD, RECIPE, RuleJudge(marks)))
    assert list(zip(found["arm_a"], found["arm_b"], strict=True)) == [
        ("sft", "base"), ("dpo", "base"), ("ppo", "base"), ("dpo", "sft"), ("ppo", "sft"), ("ppo", "dpo"),
    ]  # fmt: skip


def test_seeds_meet_one_by_one_and_base_meets_all() -> None:
    answers = responses(
        {("base", 0): ["b"], ("dpo", 0): ["d0!"], ("dpo", 7): ["d7"], ("ppo", 1): ["p1"], ("ppo", 2): ["p2"]}
    )
    assert meetings(answers, "dpo", "base") == [(0, 0, "p1", "d0!", "b"), (7, 0, "p1", "d7", "b")]
    assert meetings(answers, "ppo", "dpo") == [(1, 0, "p1", "p1", "d0!"), (2, 7, "p1", "p2", "d7")]
    found = head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(marks))
    rows = found[(found["arm_a"] == "dpo") & (found["arm_b"] == "base")]
    whole, first, second = rows.to_dict("records")
    assert (whole["wins_a"], whole["ties"], whole["win_rate"]) == (1, 1, 0.75)
    assert (whole["ci_low"], whole["ci_high"]) == wilson(0.75, 1)  # one prompt, however many seeds
    assert (first["seed_a"], first["seed_b"], first["wins_a"], first["win_rate"]) == (0, 0, 1, 1.0)
    assert (second["seed_a"], second["seed_b"], second["ties"], second["win_rate"]) == (7, 0, 1, 0.5)
    assert first["n"] == second["n"] == whole["n"] == 1


def test_the_pooled_interval_holds_the_seeds() -> None:
    """Two trainings of dpo, one that wins everywhere and one that ties everywhere: sure about each, not about the method."""
    answers = responses({("base", 0): ["b"] * 4, ("dpo", 0): ["d!"] * 4, ("dpo", 1): ["d"] * 4})
    whole, first, second = head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(marks)).to_dict("records")
    # outcomes [2 seeds, 4 prompts] 1 and 0.5: no variance over prompts, 0.125 / 2 over seeds, one degree of freedom
    crossed = share_over_seeds(np.array([[1.0] * 4, [0.5] * 4]))
    assert crossed.stderr == pytest.approx(0.25)
    assert (whole["win_rate"], whole["seed_share"]) == (0.75, 1.0)
    assert (whole["ci_low"], whole["ci_high"]) == (crossed.low, crossed.high)
    assert whole["ci_low"] < 0.1 < first["ci_low"]
    assert (first["win_rate"], second["win_rate"]) == (1.0, 0.5)
    assert (whole["length_controlled_low"], whole["length_controlled_high"]) == pytest.approx((0, 1), abs=0.01)


def test_two_seeds_that_met_one_are_no_two_witnesses() -> None:
    """Two seeds of dpo meet three of ppo: the first meets two of them, and the two levels are dpo's seeds."""
    answers = responses(
        {
            ("dpo", 0): ["d"] * 4, ("dpo", 1): ["d"] * 4,
            ("ppo", 0): ["p!"] * 4, ("ppo", 1): ["p"] * 4, ("ppo", 2): ["p!", "p!", "p", "p"],
        }
    )  # fmt: skip
    whole, *seeds = head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(marks)).to_dict("records")
    assert [(row["seed_a"], row["seed_b"], row["win_rate"]) for row in seeds] == [
        (0, 0, 1.0),
        (1, 1, 0.5),
        (2, 0, 0.75),
    ]
    levels = np.array([[1.0, 1.0, 0.75, 0.75], [0.5] * 4])  # dpo 0 lost all to ppo 0 and half of all to ppo 2
    crossed = share_over_seeds(levels)
    assert whole["win_rate"] == 0.75
    assert (whole["ci_low"], whole["ci_high"]) == (crossed.low, crossed.high)


def test_a_failed_verdict_counts_for_nobody() -> None:
    def sometimes(first: str, second: str) -> float | None:
        return None if "?" in first + second else marks(first, second)

    answers = responses({("base", 0): ["a", "b", "c?"], ("dpo", 0): ["a!", "b!", "c!"]})
    row = head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(sometimes)).iloc[0]
    assert (row["wins_a"], row["wins_b"], row["ties"], row["win_rate"]) == (2, 0, 0, 1.0)
    assert (row["n"], row["unjudged"], row["errors"]) == (2, 1, 0)
    alone = head_to_head(answers[answers["prompt_id"] == "p3"], PROMPTS, LOUD, RECIPE, RuleJudge(sometimes)).iloc[:1]
    assert list(alone[["wins_a", "wins_b", "ties", "n", "unjudged"]].iloc[0]) == [0, 0, 0, 0, 1]
    assert alone[[column for column in alone if column.endswith(("rate", "low", "high"))]].isna().all(axis=None)
    assert to_arrow(TABLES["head_to_head"], alone, Cell("m", "c")).num_rows == 1


def test_what_the_provider_could_not_answer_is_not_final() -> None:
    """A refusal is a verdict; an error may be none the next time, also where the other order has a verdict."""

    def fails_in_one_order(pair: Pair, order: Order) -> bool:
        return order == "ba" and "?" in pair.a + pair.b

    answers = responses({("base", 0): ["a", "b?"], ("dpo", 0): ["a!", "b!"]})
    found = head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(marks, fails=fails_in_one_order))
    row = found.iloc[0]
    assert (row["wins_a"], row["unjudged"], row["errors"]) == (2, 0, 1)
    assert row["order_consistent"] == 0.5  # in the second meeting one order has nothing to say
    assert not complete(found)
    assert complete(head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(marks)))


def test_the_judge_is_checked_by_the_format() -> None:
    """Three meetings of which one answer has the format: the judge prefers it, the other one, and neither."""
    strict = Constitution.model_validate(
        {"principles": [{"id": "loud", "text": "Be as loud as you can."}], "format": {"fields": [{"label": "Answer"}]}}
    )
    answers = responses(
        {
            ("base", 0): ["plain", "plain!", "plain", "Answer: both"],
            ("dpo", 0): ["Answer: a!", "Answer: b", "Answer: c", "Answer: too!"],
        }
    )
    row = head_to_head(answers, PROMPTS, strict, RECIPE, RuleJudge(marks)).iloc[0]
    assert (row["format_n"], row["format_agreement"]) == (3, 0.5)
    row = head_to_head(answers, PROMPTS, LOUD, RECIPE, RuleJudge(marks)).iloc[0]
    assert row["format_n"] == 0
    assert np.isnan(row["format_agreement"])


def test_outcome_within_the_margin_is_a_tie() -> None:
    assert [outcome(p, 0.2) for p in (0.61, 0.6, 0.5, 0.4, 0.39)] == [1, 0.5, 0.5, 0.5, 0]
    assert [outcome(p, 0.0) for p in (0.501, 0.5, 0.499)] == [1, 0.5, 0]


def test_the_winner_is_the_same_on_either_side() -> None:
    """Which answer the judge is shown first follows from content; the probability is always that of the duel's own a."""
    duels = [Duel("p", "?", a, b) for a, b in (("x!", "y"), ("y", "x!"), ("z!", "w"), ("w", "z!"))]
    judge = RuleJudge(marks)
    assert [one.p for one in judge_duels(duels, LOUD, RECIPE, judge)] == pytest.approx([0.9, 0.1, 0.9, 0.1])
    assert len(judge.pairs) == 2
    assert {duel.swapped for duel in duels} == {True, False}


def test_length_control_takes_out_a_taste_for_length() -> None:
    """A judge that looks at length alone, before arms that differ in length alone: nearly even at equal length."""
    rng = np.random.default_rng(0)
    lengths = rng.normal(20, 30, 2000)
    by_length = rng.random(2000) < 1 / (1 + np.exp(-2 * np.tanh(lengths / lengths.std())))
    assert by_length.mean() > 0.65
    assert length_controlled(by_length.astype(float), lengths).value == pytest.approx(0.5, abs=0.04)


def test_length_control_by_hand() -> None:
    """The longer answer of a wins 80%, the shorter one of a 50%, in 20,000 meetings each: at equal length the log-odds are
    halfway between log 4 and 0, which is log 2, a win rate of 2/3. The plain win rate is 65%."""
    outcomes = np.repeat([1.0, 0.0, 1.0, 0.0], [16_000, 4_000, 10_000, 10_000])
    lengths = np.repeat([7.0, -7.0], 20_000)
    found = length_controlled(outcomes, lengths)
    assert outcomes.mean() == 0.65
    assert found.value == pytest.approx(2 / 3, abs=1e-4)
    # both log-odds have the variance 1 / (n p (1 - p)); theirs, halved, has a quarter of the sum
    deviation = np.sqrt(1 / (20_000 * 0.8 * 0.2) + 1 / (20_000 * 0.25)) / 2
    logit = np.log(2) + 1.96 * deviation * np.array([-1, 1])
    assert (found.low, found.high) == pytest.approx(tuple(1 / (1 + np.exp(-logit))), abs=1e-4)


def test_length_control_leaves_what_length_does_not_explain() -> None:
    rng = np.random.default_rng(1)
    wins = (rng.random(2000) < 0.8).astype(float)
    assert length_controlled(wins, rng.normal(0, 30, 2000)).value == pytest.approx(0.8, abs=0.03)
    assert length_controlled(np.array([1.0, 0.5, 0.0, 1.0]), np.full(4, 12.0)) == (0.625, *wilson(2.5, 4))
    always = length_controlled(np.ones(64), np.arange(64.0))
    assert 0.9 < always.low < always.value <= always.high <= 1


def test_the_interval_at_equal_length_covers_the_truth() -> None:
    """A thousand studies of 64 prompts: arm a wins 70% at equal length, and its answers are longer."""
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(1000):
        lengths = rng.normal(15, 30, 64)
        logits = np.log(0.7 / 0.3) + 1.0 * np.tanh(lengths / lengths.std())
        found = length_controlled((rng.random(64) < 1 / (1 + np.exp(-logits))).astype(float), lengths)
        covered.append(found.low <= 0.7 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_seeds_do_not_pass_for_prompts() -> None:
    rng = np.random.default_rng(3)
    outcomes, lengths = (rng.random(40) < 0.7).astype(float), rng.normal(10, 30, 40)
    once = length_controlled(outcomes, lengths)
    thrice = length_controlled(np.tile(outcomes, 3), np.tile(lengths, 3), np.full(120, 1 / 3))
    assert tuple(thrice) == pytest.approx(tuple(once), abs=0.02)
