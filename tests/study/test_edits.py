"""Edits of every kind against the exact set of assets that run: what is planned, and what really runs after it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from itertools import takewhile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif_dagster.home import CHECKOUT
from tests.checkout import Checkout

pytestmark = pytest.mark.timeout(1800)
POLICIES = {"sft", "dpo", "ppo"}
CONCLUSIONS = {"adherence", "head_to_head", "qualitative", "report", "results"}


@pytest.fixture(scope="module")
def made(tiny_study: Checkout) -> Checkout:
    tiny_study.up()
    return tiny_study


def after(*arms: str) -> set[str]:
    """What follows from new policies of these arms."""
    return {f"{arm}_{what}" for arm in arms for what in ("model", "benchmarks", "responses")}


JUDGED = {"judgments", "preference_pairs", "reward_model", *after(*POLICIES), *CONCLUSIONS}
CONSTITUTION = {"revisions", "judge_agreement", *JUDGED}
BASE = {"base_benchmarks", "base_responses"}
SUITES = {f"{arm}_{what}" for arm in ("base", *POLICIES) for what in ("benchmarks", "responses")}
EDITS = {
    "a word of a principle": ("constitutions/brief.yaml", "few words", "couple of words", CONSTITUTION),
    "a principle's weight": ("constitutions/brief.yaml", "only., weight: 1", "only., weight: 2", CONSTITUTION),
    "a principle's id": ("constitutions/brief.yaml", "id: plain", "id: simple", CONSTITUTION),
    "an exemplar": ("constitutions/brief.yaml", "Frozen water.", "Water that froze.", CONSTITUTION),
    "the format": ("constitutions/brief.yaml", "label: Answer}]", 'label: Answer}]\n  separator: " - "', CONSTITUTION),
    "a comment": ("constitutions/brief.yaml", "# a comment", "# another", set()),
    "a description": ("constitutions/brief.yaml", "for people", "for humans", set()),
    "another constitution": ("constitutions/other.yaml", "few words", "couple of words", set()),
    "a prompt": (
        "prompts/study.jsonl", "Tell me of rain.", "Tell me about rain.",
        {"prompts", "completions", "revisions", "base_responses", *JUDGED},
    ),
    "the model": (
        "models/tiny.yaml", "folder:", "system_prompt: Be brief.\nfolder:", {"completions", *CONSTITUTION, *BASE},
    ),
    "the judge": ("judges/likelihood.yaml", "model: tiny", "model: tiny\ntemperature: 2", {"judge_agreement", *JUDGED}),
    "the generation recipe": ("recipes/generation.yaml", "samples: 2", "samples: 3", {"completions", "revisions", *JUDGED}),
    "the judging recipe": (
        "recipes/judging.yaml", "held_out_share: 0.4", "held_out_share: 0.5", {"judge_agreement", *JUDGED},
    ),
    "the SFT recipe": ("recipes/sft.yaml", "max_length: 400", "max_length: 401", {*after(*POLICIES), *CONCLUSIONS}),
    "the DPO recipe": ("recipes/dpo.yaml", "max_length: 400", "max_length: 401", {*after("dpo"), *CONCLUSIONS}),
    "the DPO recipe of this model alone": (
        "recipes/dpo.yaml", "max_length: 400", "max_length: 400\nmodels: {tiny: {epochs: 7}}",
        {*after("dpo"), *CONCLUSIONS},
    ),
    "the PPO recipe": ("recipes/ppo.yaml", "updates: 1", "updates: 2", {*after("ppo"), *CONCLUSIONS}),
    "the reward recipe": (
        "recipes/reward.yaml", "max_length: 400", "max_length: 401", {"reward_model", *after("ppo"), *CONCLUSIONS},
    ),
    "the benchmarks recipe": ("recipes/benchmarks.yaml", "limit: 2", "limit: 3", {*SUITES, *CONCLUSIONS}),
    # nothing is trained on an untrusted judge's verdicts: what is trained waits for its agreement, and stays if that passes
    "the labels": ("labels/pairs.jsonl", "No no.", "No.", {"judge_agreement", *JUDGED} - {"judgments"}),
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


def test_two_edits_at_once_are_planned_as_their_union(made: Checkout) -> None:
    both = ("the reward recipe", "the DPO recipe")
    for name in both:
        made.edit(*EDITS[name][:3])
    try:
        planned = made.planned()
        assert {step["asset"] for step in planned} == EDITS[both[0]][3] | EDITS[both[1]][3]
        assert {step["asset"] for step in planned if step["certain"]} == {"reward_model", "dpo_model"}
    finally:
        for name in both:
            file, old, new, _ = EDITS[name]
            made.edit(file, new, old)
    assert made.planned() == []


def test_human_grades_concern_the_graded_answers_alone(made: Checkout) -> None:
    grade = {"model": "tiny", "constitution": "brief", "arm": "dpo", "prompt_id": "p", "alignment_grade": 1}
    path = made.data / "labels" / "human_grades.jsonl"
    path.write_text(json.dumps(grade) + "\n", encoding="utf-8")
    try:
        assert {step["asset"] for step in made.planned()} == {"qualitative", "report", "results"}
    finally:
        path.unlink()
    assert made.planned() == []


def test_results_of_older_code_are_planned_with_what_follows(made: Checkout) -> None:
    path = made.home / "warehouse" / "lineage" / "dpo_model.parquet"
    kept = path.read_bytes()
    table = pq.read_table(path, partitioning=None)
    older = pa.array(["0"] * len(table), pa.string())
    pq.write_table(table.set_column(table.column_names.index("code_version"), "code_version", older), path)
    try:
        planned = made.planned()
        assert {step["asset"] for step in planned} == {*after("dpo"), *CONCLUSIONS}
        [certain] = [step for step in planned if step["certain"]]
        assert certain["reasons"] == ["code version 0 is now 1"]
    finally:
        path.write_bytes(kept)
    assert made.planned() == []


def test_a_new_constitution_is_another_cell_and_a_removed_one_leaves_the_rest_alone(made: Checkout) -> None:
    new, other = (made.data / "constitutions" / f"{name}.yaml" for name in ("third", "other"))
    shutil.copy(other, new)
    try:
        assert made.planned() == []
        planned = made.planned("--constitution", "third")
        assert {step["asset"] for step in planned if step["cell"]["constitution"] == "third"} == CONSTITUTION - {
            "results"
        }
        assert {step["asset"] for step in planned if step["cell"]["constitution"] != "third"} == {"results"}
    finally:
        new.unlink()
    content = other.read_bytes()
    other.unlink()
    try:
        assert made.planned() == []
    finally:
        other.write_bytes(content)


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


def test_watching_follows_edits_until_it_is_interrupted(made: Checkout) -> None:
    """In a process of its own, as at a terminal: the edit is made, and Ctrl-C ends it with the status of an interruption."""
    command = made.command("up", "--watch", "--select", "prompts")
    with subprocess.Popen(command, cwd=CHECKOUT, env=made.environment, stderr=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stderr
            told = iter(watching.stderr.readline, "")
            assert any("Watching" in line for line in told)
            made.edit("prompts/study.jsonl", "Tell me of rain.", "Tell me all about rain.")
            until = list(takewhile(lambda line: "Watching" not in line, told))
            assert any("prompts" in line for line in until), until
            assert made.planned("--select", "prompts") == []
            made.edit("prompts/study.jsonl", "Tell me all about rain.", "Tell me of rain.")
            assert any("Watching" in line for line in told)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 130
        finally:
            watching.kill()
    assert made.planned() == []


def test_a_removed_constitution_that_was_made_leaves_the_results_and_then_the_disk(made: Checkout) -> None:
    other = made.data / "constitutions" / "other.yaml"
    made.up("--constitution", "other", "--select", "judge_agreement")
    made.up("--constitution", "all", "--select", "results")
    content, of_other = other.read_bytes(), "select count(*) as n from judge_agreement where constitution = 'other'"
    results = str(made.home / "warehouse" / "results.duckdb")

    def published() -> int:
        with duckdb.connect(results, read_only=True) as connection:
            return int(connection.sql(of_other).fetchall()[0][0])

    assert published() > 0
    other.unlink()
    try:
        [step] = made.planned()
        assert (step["asset"], step["reasons"]) == ("results", ["other was removed"])
        made.up()
        assert made.planned() == []
        assert published() == 0
        assert made.rows(of_other) != [{"n": 0}]  # the tables themselves keep what was made, until it is to go
        assert made.rlaif("gc", "--removed", "--yes").returncode == 0
        assert made.rows(of_other) == [{"n": 0}]
        assert [
            path for path in (made.home / "history" / "judge_agreement" / "other").rglob("*") if path.is_file()
        ] == []
        assert made.planned() == []
    finally:
        other.write_bytes(content)
    assert made.planned() == []  # it is not one of study.yaml's
