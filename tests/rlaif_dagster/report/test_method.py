from __future__ import annotations

import pandas as pd
import pytest

from rlaif_dagster.report.evidence import gather
from rlaif_dagster.report.method import method
from tests.rlaif_dagster.report.study import CONSTITUTION, MODEL, MODEL_SPEC, study_tables


def test_a_reader_who_was_not_there_learns_each_step_with_its_counts() -> None:
    tables = study_tables()
    stages = {one.name: one.text for one in method(gather(tables), tables, CONSTITUTION, MODEL, MODEL_SPEC)}
    assert stages["Base model"].startswith("smollm2-135m-instruct. A small chat model")
    assert stages["Constitution"] == "1 principle: format. Its format can be checked by a program."
    assert "20 to be read by people" in stages["Prompts"]
    assert "became preference pairs" in stages["Feedback"]
    assert "PPO maximizes a reward model trained on the pairs (from SFT, 12 updates)" in stages["Policies"]
    assert stages["Measuring"].startswith("base, SFT, DPO and PPO answer the same items: the suites")
    assert "HellaSwag mini (64 items)" in stages["Measuring"]


def test_steps_that_nothing_is_known_about_are_left_out() -> None:
    names = [one.name for one in method(gather({}), {}, CONSTITUTION, MODEL, MODEL_SPEC)]
    assert names == ["Base model", "Constitution"]


@pytest.mark.parametrize(
    ("told", "paid_by"),
    [
        (
            ["reward_model", "reward_judge", "judge_failed"],
            "a reward model trained on the pairs together with the judge's own score",
        ),
        (["judge_failed"], "the judge's own score"),
    ],
)
def test_what_ppo_was_paid_by_is_said(told: list[str], paid_by: str) -> None:
    tables = study_tables()
    metrics = tables["training_metrics"]
    last = metrics[metrics["arm"] == "ppo"].iloc[[-1]]
    tables["training_metrics"] = pd.concat([metrics, *(last.assign(name=name) for name in told)])
    stages = {one.name: one.text for one in method(gather(tables), tables, CONSTITUTION, MODEL, MODEL_SPEC)}
    assert f"PPO maximizes {paid_by} (from SFT" in stages["Policies"]
