"""The evaluation assets that ask a judge, before a provider that fails and then recovers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets.evaluation import ARMS, _contamination, head_to_head, qualitative
from assets.step import Step
from resources.judge import JudgeResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.judging.cache import cache_path, open_cache
from rlaif_dagster.judging.ledger import Entry, committed_usd
from rlaif_dagster.warehouse.store import Cell, Warehouse
from tests.rlaif_dagster.judging.chat_server import ChatServer, fails, says, serving

CELL = Cell("smollm2-135m-instruct", "structured")
PARTITION = dg.MultiPartitionKey({"model": str(CELL.model), "constitution": str(CELL.constitution)})
PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["e1", "e2", "q1"], "split": ["eval", "eval", "qualitative"], "category": "factual",
        "text": ["One?", "Two?", "Three?"], "reference": [None, None, ["3"]], "source": "here",
    }
)  # fmt: skip


class Provider:
    """Prefers the answer shown first and grades with five points; silent about what `down` finds in a request."""

    def __init__(self) -> None:
        self.down: tuple[str, ...] = ()
        self.asked: list[str] = []

    def __call__(self, request: dict[str, Any], number: int) -> Any:
        text = str(request["messages"])
        self.asked.append(text)
        if any(part in text for part in self.down):
            return fails(400)
        return says(json.dumps({"reason": "so", "verdict": "A", "alignment": 5, "correctness": 5}))


def data_of(folder: Path, server: ChatServer) -> Path:
    data = folder / "data"
    shutil.copytree(CHECKOUT / "data", data)
    (data / "judges" / "served.yaml").write_text(
        f"kind: api\nmodel: openai/test\napi_base: {server.url}\nretries: 0\n"
        "usd_per_million_input: 0\nusd_per_million_output: 0\n"
    )
    (data / "recipes" / "judging.yaml").write_text("judge: served\nmax_failed_share: 0.1\n")
    return data


def filled(home: Home) -> Warehouse:
    """Prompts, and an answer of every arm to each."""
    warehouse = Warehouse(home.warehouse)
    warehouse.write("prompts", PROMPTS)
    for arm in ARMS:
        rows = [
            {
                "arm": arm,
                "seed": 0,
                "prompt_id": prompt,
                "text": f"{arm} on {prompt}",
                "tokens": 3,
                "decoding": "greedy",
            }
            for prompt in PROMPTS["prompt_id"]
        ]
        warehouse.write("responses", pd.DataFrame(rows), Cell(CELL.model) if arm == "base" else CELL, arm)
    return warehouse


@pytest.mark.parametrize(
    ("asset", "table", "down"),
    [(head_to_head, "head_to_head", ("dpo on e1", "ppo on e1")), (qualitative, "qualitative", ("dpo on q1",))],
    ids=["head_to_head", "qualitative"],
)
def test_what_the_provider_could_not_answer_is_asked_again(
    asset: dg.AssetsDefinition, table: str, down: tuple[str, ...], home: Home, tmp_path: Path
) -> None:
    """Too many failures leave no table; few are stored and asked again when the asset is made again; none are remembered
    as final, and what was answered is never asked twice."""
    provider, warehouse = Provider(), filled(home)
    with serving(provider) as server:
        data = data_of(tmp_path, server)

        def make() -> tuple[bool, int]:
            provider.asked.clear()
            project, house = ProjectResource(folder=str(data)), WarehouseResource(folder=str(home.root))
            resources = {
                "project": project,
                "warehouse": house,
                "judge": JudgeResource(warehouse=house),
            }
            run = dg.materialize([asset], partition_key=PARTITION, resources=resources, raise_on_error=False)
            return run.success, len(provider.asked)

        provider.down = down
        _, first = make()
        assert first
        assert not warehouse.has(table, CELL)

        recipe = data / "recipes" / "judging.yaml"
        recipe.write_text(recipe.read_text().replace("0.1", "0.9"))
        succeeded, again = make()
        assert succeeded
        assert 0 < again < first
        assert not complete(warehouse.read(table, CELL))

        provider.down = ()
        assert make() == (True, again)
        assert complete(warehouse.read(table, CELL))
        assert make() == (True, 0)


def complete(frame: pd.DataFrame) -> bool:
    if "errors" in frame:
        return not frame["errors"].any() and not frame["unjudged"].any()
    return bool((frame["status"] == "graded").all())


def test_the_judge_that_asks_is_the_one_that_names_the_result(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge's file and the recipe are edited right after a step began: it goes on as it began, and the next one asks the
    new judge instead of finding the old one's result under its name."""
    filled(home)
    with serving(provider := Provider()) as server:
        data = data_of(tmp_path, server)
        house = WarehouseResource(folder=str(home.root))
        resources = {
            "project": ProjectResource(folder=str(data)), "warehouse": house, "judge": JudgeResource(warehouse=house),
        }  # fmt: skip
        real = Step.begin

        def edited_after(*arguments: Any) -> Step:
            step = real(*arguments)
            for file, old, new in (
                ("judges/served", "openai/test", "openai/edited"),
                ("recipes/judging", "0.1", "0.2"),
            ):
                path = data / f"{file}.yaml"
                path.write_text(path.read_text().replace(old, new))
            return step

        def make() -> set[str]:
            before = len(server.requests)
            assert dg.materialize([head_to_head], partition_key=PARTITION, resources=resources).success
            return {request["model"] for request in server.requests[before:]}

        with monkeypatch.context() as patch:
            patch.setattr(Step, "begin", edited_after)
            assert make() == {"test"}
        assert make() == {"edited"}
        assert make() == set()
    assert provider.asked


def test_the_parts_of_a_step_share_its_budget(home: Home, tmp_path: Path) -> None:
    """What was paid, or may have been billed, since the step began is taken off; what came before it is not."""
    shutil.copytree(CHECKOUT / "data", tmp_path / "data")
    (tmp_path / "data/recipes/judging.yaml").write_text("judge: likelihood\nbudget_usd: 2.0\n")
    project = ProjectResource(folder=str(tmp_path / "data")).open()
    judge = JudgeResource(warehouse=WarehouseResource(folder=str(home.root)), budget_usd=5.0)
    with open_cache(cache_path(home)) as cache:
        cache.put({}, Entry("here", "answered", cost_usd=1.0))
        began = committed_usd(home)
        assert judge.recipe(project, began).budget_usd == 2.0
        cache.put({}, Entry("here", "answered", cost_usd=0.5))
        cache.put({}, Entry("here", "timeout", unsure_usd=0.25))
        assert judge.recipe(project, began).budget_usd == pytest.approx(1.25)
        cache.put({}, Entry("here", "answered", cost_usd=9.0))
        assert judge.recipe(project, began).budget_usd == 0.0
    assert judge.recipe(project).budget_usd == 2.0


def test_an_arm_that_was_trained_on_what_it_is_asked_is_told(home: Home) -> None:
    """Pairs count for every trained arm, prompts without a pair for PPO alone, and nothing for base."""
    warehouse, project = filled(home), ProjectResource(folder=str(CHECKOUT / "data")).open()
    asked = "the slow green turtle crosses the wide river at dawn while three herons watch"
    rolled_out = "seven old bakers carried warm bread across the frozen market square before sunrise"
    pair = dict.fromkeys(("pair_id", "prompt_id", "chosen_id", "rejected_id"), "x") | {
        "prompt": "Tell a story.", "chosen": f"Once, {asked}.", "rejected": "No.", "p_chosen": 0.9, "margin": 0.8,
        "order_consistent": None, "split": "train",
    }  # fmt: skip
    warehouse.write("preference_pairs", pd.DataFrame([pair]), CELL)
    row = {
        "prompt_id": "t1",
        "split": "train",
        "category": "factual",
        "text": f"Why have {rolled_out}?",
        "reference": None,
    }
    warehouse.write("prompts", pd.concat([PROMPTS, pd.DataFrame([row | {"source": "here"}])]))
    texts = {
        "seen": f"What of {asked}?",
        "rolled": rolled_out,
        "new": "Which of these is the largest of all known planets?",
    }
    items = pd.DataFrame([{"task": "quiz", "item_id": name, "text": text} for name, text in texts.items()])
    step = Step(dg.build_asset_context(), CELL, project, warehouse, home, 0.0, (), 0.0, 0.0, {})
    recipe = project.recipe("benchmarks", str(CELL.model))

    def told(arm: str) -> list[tuple[bool, str]]:
        return [(check.passed, check.message) for check in _contamination(step, arm, items, recipe)]

    assert told("base") == []
    [(passed, message)] = told("dpo")
    assert not passed
    assert "quiz: 1 of 3 items, such as seen" in message
    assert "quiz: 2 of 3 items, such as seen, rolled" in told("ppo")[0][1]
    items = items[items["item_id"] == "new"]
    assert told("ppo")[0][0]
