"""Edits of every kind against the exact set of assets that run: what is planned, and what really runs after it."""

from __future__ import annotations

import shutil
from pathlib import Path

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


def test_a_lost_adapter_is_trained_again_and_comes_out_the_same(made: Checkout) -> None:
    before = made.versions()
    [row] = made.rows("select path from models where arm = 'dpo'")
    shutil.rmtree(made.home / "models" / row["path"])
    assert [step["asset"] for step in made.planned() if step["certain"]] == ["dpo_model"]
    made.up()
    assert (made.home / "models" / row["path"] / "adapter_model.safetensors").exists()
    assert made.versions() == before


def test_a_failure_that_the_user_can_mend_is_one_line_and_status_2(made: Checkout) -> None:
    key = "RLAIF_TEST_KEY_THAT_NOBODY_SET"
    (made.data / "judges" / "server.yaml").write_text(
        f"kind: api\nmodel: openai/m\napi_base: http://127.0.0.1:9\napi_key_env: {key}\n", encoding="utf-8"
    )
    made.edit("recipes/judging.yaml", "judge: likelihood", "judge: server")
    try:
        run = made.rlaif("up", "--select", "judgments")
        assert run.returncode == 2, run.stderr
        [line] = [line for line in run.stderr.splitlines() if line.startswith("failed")]
        assert (
            line
            == f"failed  judgments tiny/brief: judge server: the environment variable {key} is not set; put the key there"
        )
    finally:
        made.edit("recipes/judging.yaml", "judge: server", "judge: likelihood")
        (made.data / "judges" / "server.yaml").unlink()
    assert made.planned() == []


def test_other_weights_in_a_models_folder_are_another_model(made: Checkout) -> None:
    weights = Path((made.data / "models" / "tiny.yaml").read_text().split()[-1]) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + bytes(4))
    try:
        certain = {step["asset"] for step in made.planned() if step["certain"]}
        assert {"completions", "revisions", "sft_model", "base_benchmarks", "base_responses"} <= certain
    finally:
        weights.write_bytes(content)
    assert made.planned() == []
