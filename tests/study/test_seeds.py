"""Three seeds of DPO and PPO through the whole study, PPO paid by reward model and judge: every table knows whose row is whose,
and what a recipe does not read retrains nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkout import Checkout

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]
SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def seeded(tiny_study: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder: Path = tmp_path_factory.mktemp("seeded")
    shutil.copytree(tiny_study.data, folder / "data")
    study = Checkout(folder / "data", folder / "home")
    for stage, more in (("dpo", ""), ("ppo", "reward: {model: 1.0, judge: 0.5}\n")):
        path = study.data / "recipes" / f"{stage}.yaml"
        path.write_text(path.read_text(encoding="utf-8") + f"seeds: {SEEDS}\n{more}", encoding="utf-8")
    study.up()
    return study


@pytest.mark.parametrize(
    "table", ["models", "training_metrics", "benchmarks", "benchmark_items", "responses", "adherence", "qualitative"]
)
def test_a_table_holds_every_seed(seeded: Checkout, table: str) -> None:
    rows = seeded.rows(f"select distinct arm, seed from {table} where arm in ('dpo', 'ppo') order by all")
    assert [(row["arm"], row["seed"]) for row in rows] == [(arm, seed) for arm in ("dpo", "ppo") for seed in SEEDS]


def test_seeds_are_other_policies(seeded: Checkout) -> None:
    rows = seeded.rows("select arm, count(distinct digest) as n from models where arm in ('dpo', 'ppo') group by arm")
    assert {row["arm"]: row["n"] for row in rows} == {"dpo": 3, "ppo": 3}


def test_arms_meet_seed_by_seed(seeded: Checkout) -> None:
    """Three eval prompts, three seeds: nine meetings where an arm has seeds, one a prompt where neither has."""
    rows = seeded.rows("select arm_a, arm_b, wins_a + wins_b + ties as n from head_to_head where seed_a is null")
    met = {(row["arm_a"], row["arm_b"]): row["n"] for row in rows}
    assert met[("ppo", "dpo")] == met[("ppo", "base")] == met[("dpo", "sft")] == 9
    assert met[("sft", "base")] == 3
    alone = seeded.rows(
        "select arm_a, arm_b, seed_a, seed_b, wins_a + wins_b + ties as n from head_to_head where seed_a >= 0"
    )
    assert {row["n"] for row in alone} == {3}
    assert [(row["seed_a"], row["seed_b"]) for row in alone if row["arm_a"] == "ppo" and row["arm_b"] == "dpo"] == [
        (seed, seed) for seed in SEEDS
    ]


def test_what_the_judge_paid_is_told(seeded: Checkout) -> None:
    rows = seeded.rows(
        "select seed, count(*) as n from training_metrics where name = 'reward_judge' group by seed order by 1"
    )
    assert [row["seed"] for row in rows] == SEEDS


def test_only_a_recipe_that_asks_the_judge_is_trained_again_for_it(seeded: Checkout) -> None:
    """The weight of a principle changes what PPO is paid here; with the reward model alone it is no part of what is read."""
    before = seeded.versions()["ppo_model brief|tiny"]
    seeded.edit("constitutions/brief.yaml", "jargon., weight: 1", "jargon., weight: 1.0001")
    assert "ppo_model" in {step["asset"] for step in seeded.planned() if step["certain"]}
    seeded.up("--select", "ppo_model")
    assert seeded.versions()["ppo_model brief|tiny"] != before
