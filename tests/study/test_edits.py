"""Edits of every kind against the exact set of assets that run: what is planned, and what really runs after it."""

from __future__ import annotations

import pytest

from tests.checkout import Checkout

pytestmark = pytest.mark.timeout(600)
POLICIES = {"sft", "dpo", "ppo"}
CONCLUSIONS = {"adherence", "head_to_head", "qualitative", "report", "results"}


@pytest.fixture(scope="module")
def made(tiny_study: Checkout) -> Checkout:
    tiny_study.up()
    return tiny_study


def after(*arms: str) -> set[str]:
    """What follows from new policies of these arms."""
    return {f"{arm}_{what}" for arm in arms for what in ("model", "benchmarks", "responses")}


EDITS = {
    "a word of a principle": (
        "constitutions/brief.yaml", "few words", "couple of words",
        {"revisions", "judgments", "preference_pairs", "judge_agreement", "reward_model", *after(*POLICIES), *CONCLUSIONS},
    ),
    "a comment": ("constitutions/brief.yaml", "# a comment", "# another", set()),
    "a description": ("constitutions/brief.yaml", "for people", "for humans", set()),
    "another constitution": ("constitutions/other.yaml", "few words", "couple of words", set()),
    "the DPO recipe": ("recipes/dpo.yaml", "max_length: 400", "max_length: 401", {*after("dpo"), *CONCLUSIONS}),
    "the PPO recipe": ("recipes/ppo.yaml", "updates: 1", "updates: 2", {*after("ppo"), *CONCLUSIONS}),
    "the reward recipe": (
        "recipes/reward.yaml", "max_length: 400", "max_length: 401", {"reward_model", *after("ppo"), *CONCLUSIONS},
    ),
    # nothing is trained on an untrusted judge's verdicts: what is trained waits for its agreement, and stays if that passes
    "the labels": (
        "labels/pairs.jsonl", "No no.", "No.",
        {"judge_agreement", "preference_pairs", "reward_model", *after(*POLICIES), *CONCLUSIONS},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_planned_exactly(made: Checkout, name: str) -> None:
    file, old, new, expected = EDITS[name]
    made.edit(file, old, new)
    try:
        assert {step["asset"] for step in made.planned()} == expected
    finally:
        made.edit(file, new, old)
    assert made.planned() == []


def test_an_edit_that_comes_out_the_same_stops_where_it_does(made: Checkout) -> None:
    """The first principle's id is stored in every judgment, its weight is not: new weights change the pairs at most."""
    before = made.versions()
    made.edit("constitutions/brief.yaml", "jargon., weight: 1", "jargon., weight: 1.0001")
    told = made.up()
    after_edit = made.versions()
    assert after_edit["judgments brief|tiny"] == before["judgments brief|tiny"]
    assert after_edit["completions tiny"] == before["completions tiny"]
    assert "judgments" in told
    assert "unchanged" in told
    made.edit("constitutions/brief.yaml", "weight: 1.0001", "weight: 1")
    made.up()
    assert made.versions() == before


def test_a_lost_table_is_made_again_without_the_work(made: Checkout) -> None:
    path = made.home / "warehouse" / "responses" / "model=tiny" / "constitution=brief" / "dpo.parquet"
    path.unlink()
    assert [step["asset"] for step in made.planned() if step["certain"]] == ["dpo_responses"]
    made.up()
    assert path.exists()
    assert made.planned() == []
