"""A plan counts the questions that PPO will ask a judge, and none where it asks none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rlaif_dagster.estimates import estimator
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.planning import Step
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell

STEP = Step("ppo_model", Cell("smollm2-135m-instruct", "structured"), 5, True, ())
RECIPE = """\
updates: 6
rollout_batch: 10
evaluate_updates: 4
held_out_prompts: 5
minibatches: 1
seeds: [0, 1]
"""


@pytest.mark.parametrize(
    ("reward", "judge", "requests"),
    [
        ("{model: 1.0}", "gpt-4o-mini", 0),
        # two seeds of six rollouts of ten and three evaluations (start, after 4, after 6) of five, in both orders
        ("{model: 0.0, judge: 1.0}", "gpt-4o-mini", 2 * (6 * 10 + 3 * 5) * 2),
        ("{judge: 0.5}", "likelihood", 0),  # scoring asks nobody
    ],
)
def test_questions_of_direct_rlaif(tmp_path: Path, reward: str, judge: str, requests: int) -> None:
    data = tmp_path / "data"
    shutil.copytree(CHECKOUT / "data", data)
    (data / "recipes" / "ppo.yaml").write_text(f"{RECIPE}reward: {reward}\n", encoding="utf-8")
    (data / "recipes" / "judging.yaml").write_text(f"judge: {judge}\norders: both\n", encoding="utf-8")
    principles = len(Project(data).constitution("structured").principles)
    step = estimator(Project(data), Home(tmp_path / "home"))(STEP)
    assert step.requests == requests * principles
    assert (step.usd > 0) == (requests > 0)
