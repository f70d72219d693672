"""The study that plans are timed on: fresh as a whole, and stale by the edit alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from assets.graph import graph_nodes, graph_state
from bench.lineage import Sandbox, edit, planned, prepare
from bench.measurement import WrongResult
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.resolver import resolve
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell, Warehouse

FILES = {
    "study.yaml": "models: [tiny]\nconstitutions: [brief]\n",
    "models/tiny.yaml": "folder: /nowhere/tiny\n",
    "constitutions/brief.yaml": "principles: [{id: short, text: Answer briefly.}]\n",
    "judges/likelihood.yaml": "kind: likelihood\nmodel: tiny\n",
    "prompts/sources.yaml": "sources: [{file: study.jsonl}]\n",
    "prompts/study.jsonl": '{"split": "train", "category": "factual", "text": "What is it?"}\n',
    "recipes/judging.yaml": "judge: likelihood\n",
    "recipes/benchmarks.yaml": "tasks: [{task: mmlu_mini}]\n",
    "recipes/generation.yaml": "exemplars: 1\n",
    **{f"recipes/{stage}.yaml": "seed: 0\n" for stage in ("sft", "reward")},
    **{f"recipes/{stage}.yaml": "seeds: [0]\n" for stage in ("dpo", "ppo")},
}


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    for name, text in FILES.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(CHECKOUT / "data" / "benchmarks", tmp_path / "data" / "benchmarks")
    return Sandbox(Project(tmp_path / "data"), Home(tmp_path / "home"))


def stale(sandbox: Sandbox) -> dict[str, set[str]]:
    """Stale assets with the texts of their reasons, as the resolver sees them."""
    state = graph_state(sandbox.project, Warehouse(sandbox.home.warehouse))
    return {item.asset: {reason.text for reason in item.reasons} for item in resolve(state, ["tiny"], ["brief"])}


def test_a_prepared_home_is_fresh_and_an_edit_makes_stale_what_follows_from_it(sandbox: Sandbox) -> None:
    makers = {node.asset for node in graph_nodes().values() if node.code_version}
    assert stale(sandbox).keys() == makers
    assert prepare(sandbox.project, sandbox.home, ["tiny"], ["brief"]) == len(makers)
    assert stale(sandbox) == {}
    edit(sandbox.project, "brief")
    after = stale(sandbox)
    assert after["judgments"] == after["report"] == {"constitution brief changed: principles.0.text"}
    assert makers - after.keys() == {"prompts", "completions", "base_benchmarks", "base_responses"}


def test_the_tables_of_a_prepared_home_are_tables(sandbox: Sandbox) -> None:
    prepare(sandbox.project, sandbox.home, ["tiny"], ["brief"])
    warehouse = Warehouse(sandbox.home.warehouse)
    assert list(warehouse.read("responses", Cell("tiny"), "base")["model"]) == []
    assert warehouse.has("preference_pairs", Cell("tiny", "brief"))


def test_an_edit_adds_a_sentence_to_the_first_principle(sandbox: Sandbox) -> None:
    edit(sandbox.project, "brief")
    assert sandbox.project.constitution("brief").principles[0].text == "Answer briefly. Do so always."


def test_a_plan_in_a_process_loads_nothing_heavy(sandbox: Sandbox) -> None:
    prepare(sandbox.project, sandbox.home, ["tiny"], ["brief"])
    assert planned(sandbox) == []


def test_a_plan_that_fails_is_told(sandbox: Sandbox) -> None:
    (sandbox.project.root / "recipes" / "ppo.yaml").unlink()
    with pytest.raises(WrongResult, match=r"status 1: .*recipes/ppo.yaml: no such file"):
        planned(sandbox)
