"""What a plan says that grading and head to head will ask: every seed is graded, and arms meet seed by seed."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rlaif_dagster.estimates import ARMS, estimator
from rlaif_dagster.evaluation.qualitative import grade
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.build import make_judge
from rlaif_dagster.planning import Step
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.records import Record, append_record
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell, Warehouse
from tests.rlaif_dagster.judging.chat_server import says, serving

CELL = Cell("smollm2-135m-instruct", "structured")


@pytest.mark.parametrize(
    ("dpo", "ppo", "graded", "met"),
    [
        ("[0]", "[0]", 4, 6),
        # base and sft have one policy each; the meetings: sft-base 1, dpo with base and sft 3 each, ppo 2 each, ppo-dpo 3
        ("[0, 1, 2]", "[5, 6]", 1 + 1 + 3 + 2, 1 + 3 + 3 + 2 + 2 + 3),
    ],
)
def test_every_seed_is_counted(tmp_path: Path, dpo: str, ppo: str, graded: int, met: int) -> None:
    data = tmp_path / "data"
    shutil.copytree(CHECKOUT / "data", data)
    for stage, seeds in (("dpo", dpo), ("ppo", ppo)):
        path = data / "recipes" / f"{stage}.yaml"
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("seeds:")]
        path.write_text("\n".join([*lines, f"seeds: {seeds}", ""]), encoding="utf-8")
    (data / "recipes" / "judging.yaml").write_text("judge: gpt-4o-mini\norders: both\n", encoding="utf-8")
    project = Project(data)
    splits = read_prompts(project.prompt_sources(), data / "prompts")["split"].value_counts()
    priced = estimator(project, Home(tmp_path / "home"))
    principles = len(project.constitution("structured").principles)
    assert priced(Step("qualitative", CELL, 7, True, ())).requests == graded * splits["qualitative"]
    assert priced(Step("head_to_head", CELL, 7, True, ())).requests == met * splits["eval"] * 2 * principles


def test_what_a_step_took_says_nothing_about_another_model(tmp_path: Path) -> None:
    data, home = tmp_path / "data", Home(tmp_path / "home")
    shutil.copytree(CHECKOUT / "data", data)
    record = Record("sft_model", f"honesty|{CELL.model}", "1", "1", (), "", datetime(2026, 1, 1, tzinfo=UTC), 32.0, 0.0)
    append_record(Warehouse(home.warehouse), record)
    priced = estimator(Project(data), home)
    assert (
        priced(Step("sft_model", CELL, 7, True, ())).seconds == 32.0
    )  # of another constitution: as good a guess as any
    assert priced(Step("sft_model", Cell("llama-3.1-8b-instruct", "structured"), 7, True, ())).seconds is None


def test_a_policy_that_a_judge_pays_takes_its_training_and_its_answers(tmp_path: Path) -> None:
    data, home = tmp_path / "data", Home(tmp_path / "home")
    shutil.copytree(CHECKOUT / "data", data)
    (data / "recipes" / "judging.yaml").write_text("judge: gpt-4o-mini\n", encoding="utf-8")
    step = Step("ppo_model", CELL, 7, True, ())
    new = estimator(Project(data), home)(step)
    assert new.requests
    assert new.seconds is None  # the judge's time alone would not be the step's
    record = Record(
        "ppo_model", f"structured|{CELL.model}", "1", "1", (), "", datetime(2026, 1, 1, tzinfo=UTC), 400.0, 0.0
    )
    append_record(Warehouse(home.warehouse), record)
    known = estimator(Project(data), home)(step)
    assert known.seconds is not None
    assert known.seconds > 400.0


def test_what_was_graded_is_not_counted_again(tmp_path: Path) -> None:
    """With the answers there, the plan names the very questions: one a distinct answer, none that the judge has answered."""
    data, home = tmp_path / "data", Home(tmp_path / "home")
    shutil.copytree(CHECKOUT / "data", data)
    warehouse = Warehouse(home.warehouse)
    prompts = pd.DataFrame(
        {"prompt_id": ["e", "q"], "split": ["eval", "qualitative"], "category": "factual", "text": ["One?", "Two?"],
         "reference": [None, ["2"]], "source": "here"}
    )  # fmt: skip
    warehouse.write("prompts", prompts)

    def answer(arm: str, *texts: str) -> pd.DataFrame:
        """An answer of each seed to the qualitative prompt."""
        rows = [(arm, seed, "q", text, 2, "greedy") for seed, text in enumerate(texts)]
        frame = pd.DataFrame(rows, columns=["arm", "seed", "prompt_id", "text", "tokens", "decoding"])
        warehouse.write("responses", frame, Cell(CELL.model) if arm == "base" else CELL, arm)
        return frame

    def graded(request: dict[str, Any], number: int) -> Any:
        return says(json.dumps({"reason": "so", "alignment": 5, "correctness": 5}))

    def planned() -> int:
        return estimator(Project(data), home)(Step("qualitative", CELL, 7, True, ())).requests

    with serving(graded) as server:
        judge_file = f"kind: api\nmodel: openai/test\napi_base: {server.url}\nusd_per_million_input: 0\nusd_per_million_output: 0\n"
        (data / "judges" / "served.yaml").write_text(judge_file, encoding="utf-8")
        (data / "recipes" / "judging.yaml").write_text("judge: served\n", encoding="utf-8")
        project = Project(data)
        responses = pd.concat([answer(arm, arm) for arm in ARMS])
        assert planned() == 4
        judge = make_judge("served", project.judges("served"), {}, home)
        grade(responses, prompts, project.constitution("structured"), project.recipe("judging"), judge, [])
        assert len(server.requests) == 4
        assert planned() == 0
        answer("dpo", "dpo", "another", "another")
        assert planned() == 1
