"""The whole study through the command line, on the real embedded model: made once, fresh after, stale where edited."""

from __future__ import annotations

import time

import duckdb
import pytest

from rlaif_dagster.warehouse.schemas import TABLES
from tests.e2e.conftest import PROMPTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]
CELL = ("smollm2-135m-instruct", "structured")
ARMS = ["base", "dpo", "ppo", "sft"]


@pytest.fixture(scope="module")
def made(checkout):
    """The study, made by `rlaif up`."""
    run = checkout.rlaif("up")
    assert run.returncode == 0, run.stderr[-4000:]
    return run


def rows(checkout, sql):
    with duckdb.connect(str(checkout.home / "warehouse" / "results.duckdb"), read_only=True) as database:
        return database.execute(sql).fetchall()


def test_up_ends_with_the_four_arms_and_the_report(checkout, made):
    for arm in ("base", "SFT", "DPO", "PPO"):
        assert arm in made.stdout
    report = checkout.home / "warehouse" / "report" / f"model={CELL[0]}" / f"constitution={CELL[1]}" / "report.html"
    assert str(report) in made.stdout
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_every_table_is_there_and_filled(checkout, made):
    counts = {table: rows(checkout, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}
    assert all(counts.values()), counts
    assert counts["prompts"] == sum(PROMPTS.values())
    assert rows(checkout, "SELECT list(DISTINCT arm ORDER BY arm) FROM responses")[0][0] == ARMS
    answers = (PROMPTS["eval"] + PROMPTS["qualitative"]) * len(ARMS)
    assert rows(checkout, "SELECT count(*) FROM responses WHERE decoding = 'greedy'")[0][0] == answers
    assert rows(checkout, "SELECT count(*) FROM qualitative")[0][0] == PROMPTS["qualitative"] * len(ARMS)
    assert rows(checkout, "SELECT count(*) FROM head_to_head WHERE seed_a IS NULL")[0][0] == 6


def test_columns_carry_their_meaning(checkout, made):
    comment = rows(checkout, "SELECT comment FROM duckdb_columns() WHERE table_name='models' AND column_name='digest'")
    assert comment == [("of its safetensors",)]


def test_lineage_reaches_from_ppo_to_the_files(checkout, made):
    upstream = rows(checkout, "SELECT upstream FROM lineage WHERE asset = 'ppo_model'")[0][0]
    names = {version["asset"] for version in upstream}
    assert names == {
        "prompts", "model_spec", "reward_model", "sft_model", "recipe_ppo", "constitution", "judge_spec", "recipe_judging",
    }  # fmt: skip
    run = checkout.rlaif("lineage", "ppo_model")
    assert run.returncode == 0
    assert "constitution" in run.stdout


def test_a_second_up_does_nothing_quickly(checkout, made):
    started = time.monotonic()
    run = checkout.rlaif("up")
    assert run.returncode == 0
    assert "Nothing to do" in run.stdout
    assert time.monotonic() - started < 15


def test_an_edited_principle_names_what_follows_and_nothing_else(checkout, made):
    checkout.edit("constitutions/structured.yaml", "Respond in the strict", "Reply in the strict")
    try:
        steps = checkout.planned()
    finally:
        checkout.edit("constitutions/structured.yaml", "Reply in the strict", "Respond in the strict")
    follows = {f"{arm}_{what}" for arm in ("sft", "dpo", "ppo") for what in ("model", "benchmarks", "responses")}
    assert {step["asset"] for step in steps} == follows | {
        "revisions", "judgments", "preference_pairs", "judge_agreement", "reward_model", "adherence", "head_to_head",
        "qualitative", "report", "results",
    }  # fmt: skip
    assert all(step["cell"]["constitution"] in (CELL[1], None) for step in steps)
    assert "principles.0.text" in steps[0]["reasons"][0]


def test_an_edited_comment_changes_nothing(checkout, made):
    checkout.edit("constitutions/structured.yaml", "# The measurable", "# This is the measurable")
    assert checkout.planned() == []


def test_sql_reads_the_live_tables(checkout, made):
    sql = "select arm, decoding, avg(adherent::int) as share from adherence group by all order by all"
    assert [(row["arm"], row["decoding"]) for row in checkout.rows(sql)] == [
        (arm, decoding) for arm in ARMS for decoding in ("greedy", "sampled")
    ]


def test_status_shows_everything_fresh(checkout, made):
    run = checkout.rlaif("status")
    assert run.returncode == 0
    assert "stale" not in run.stdout
    assert "failed" not in run.stdout
