"""What the README says of the default study, held against the study itself at its full size.

    .venv/bin/pytest -m slow tests/e2e/test_default_study.py

Works on the checkout's own `.rlaif/`: after `make demo` it takes seconds, before it a quarter of an hour on two cores.
"""

from __future__ import annotations

import pytest

from rlaif_dagster.home import CHECKOUT, current_home
from rlaif_dagster.statistics import paired_difference
from tests.checkout import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(3600)]
CELL = ("smollm2-135m-instruct", "structured")
CAPABILITY = ("mmlu_mini", "hellaswag_mini")


@pytest.fixture(scope="module")
def study() -> Checkout:
    made = Checkout(CHECKOUT / "data", current_home().root)
    made.up("--model", CELL[0], "--constitution", CELL[1])
    return made


def share(study: Checkout, arm: str, decoding: str = "greedy") -> float:
    [row] = study.rows(
        "select avg(adherent::int) as share from adherence where split = 'eval' "
        f"and arm = '{arm}' and decoding = '{decoding}' and constitution = '{CELL[1]}'"
    )
    return float(row["share"])


def test_the_format_is_learned(study: Checkout) -> None:
    assert share(study, "base") <= 0.05
    assert share(study, "sft") <= 0.6  # a light start, or there would be nothing left to gain
    assert min(share(study, "dpo"), share(study, "ppo")) >= 0.92


@pytest.mark.parametrize("arm", ["dpo", "ppo"])
@pytest.mark.parametrize("decoding", ["greedy", "sampled"])
def test_dpo_and_ppo_add_to_the_sft_that_they_start_from(study: Checkout, arm: str, decoding: str) -> None:
    rows = study.rows(
        f"select x.adherent::int as x, s.adherent::int as s from adherence x join adherence s using (prompt_id, decoding) "
        f"where x.arm = '{arm}' and s.arm = 'sft' and x.split = 'eval' and decoding = '{decoding}' and x.seed = 0 "
        f"and x.constitution = '{CELL[1]}' and s.constitution = '{CELL[1]}'"
    )
    assert len(rows) == 64
    assert paired_difference([row["x"] for row in rows], [row["s"] for row in rows]).low > 0


@pytest.mark.parametrize("arm", ["dpo", "ppo"])
def test_each_beats_the_base_model_before_the_judge(study: Checkout, arm: str) -> None:
    [row] = study.rows(
        "select arm_a, ci_low, ci_high from head_to_head "
        f"where constitution = '{CELL[1]}' and seed_a is null and list_sort([arm_a, arm_b]) = list_sort(['{arm}', 'base'])"
    )
    assert row["ci_low"] > 0.5 if row["arm_a"] == arm else row["ci_high"] < 0.5


@pytest.mark.parametrize("arm", ["dpo", "ppo"])
@pytest.mark.parametrize("task", CAPABILITY)
def test_no_capability_that_the_suites_could_show_is_lost(study: Checkout, arm: str, task: str) -> None:
    rows = study.rows(
        f"select x.score as x, b.score as b from benchmark_items x join benchmark_items b using (item_id, task, metric, model) "
        f"where x.arm = '{arm}' and b.arm = 'base' and task = '{task}' and x.seed = 0 and x.constitution = '{CELL[1]}' "
        "qualify metric = max(metric) over ()"  # acc_norm where there is one
    )
    assert len(rows) >= 60
    assert paired_difference([row["x"] for row in rows], [row["b"] for row in rows]).high >= 0


def test_evaluation_takes_at_most_a_third_of_the_study(study: Checkout) -> None:
    """From the durations in `lineage`, of the first time that each asset of the cell was made."""
    rows = study.rows(
        "select asset, seconds from lineage "
        f"where \"partition\" in ('{CELL[0]}', '{CELL[1]}', '{CELL[1]}|{CELL[0]}') or \"partition\" is null "
        'qualify row_number() over (partition by asset, "partition" order by started_at) = 1'
    )
    seconds = {row["asset"]: float(row["seconds"]) for row in rows}
    evaluating = {name for name in seconds if name.endswith(("_benchmarks", "_responses"))}
    assert len(evaluating) == 8
    evaluating |= {"adherence", "head_to_head", "qualitative"}
    assert {"completions", "revisions", "judgments", "ppo_model"} <= seconds.keys()
    assert sum(seconds[name] for name in evaluating) <= sum(seconds.values()) / 3
