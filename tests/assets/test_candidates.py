"""Completions and revisions out of the graph, sampled by a server: no weights are loaded, and nothing is asked for twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from assets.data import completions
from assets.preferences import revisions
from resources.language_model import LanguageModelResource
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.warehouse.store import Cell, Warehouse
from tests.rlaif_dagster.judging.chat_server import ChatServer, serving
from tests.rlaif_dagster.language.test_endpoint import answers

MODEL, CONSTITUTION = "llama-3.1-8b-instruct", "structured"  # whose weights are nowhere near
PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["t1", "t2", "e1"], "split": ["train", "train", "eval"], "category": "factual",
        "text": ["One?", "Two?", "Three?"], "reference": None, "source": "here",
    }
)  # fmt: skip


def make(home: Home, data: Path) -> bool:
    warehouse = WarehouseResource(folder=str(home.root))
    resources = {
        "project": ProjectResource(folder=str(data)), "warehouse": warehouse,
        "language_model": LanguageModelResource(warehouse=warehouse),
    }  # fmt: skip
    made = dg.materialize([completions], resources=resources, partition_key=MODEL)
    grid = dg.MultiPartitionKey({"model": MODEL, "constitution": CONSTITUTION})
    return made.success and dg.materialize([revisions], resources=resources, partition_key=grid).success


def served_by(server: ChatServer, data: Path) -> None:
    (data / "recipes" / "generation.yaml").write_text(
        f"backend: {{api_base: '{server.url}', model: base, retries: 0}}\nexemplars: 2\nrevisions: {{samples: 2}}\n"
    )


def test_a_server_samples_both_tables_and_is_asked_once(home: Home, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(CHECKOUT / "data", data)
    warehouse = Warehouse(home.warehouse)
    warehouse.write("prompts", PROMPTS)
    with serving(answers) as server:
        served_by(server, data)
        assert make(home, data)
        first = warehouse.read("completions", Cell(MODEL))
        assert sorted(first["prompt_id"]) == ["t1", "t2"]
        assert len(warehouse.read("revisions", Cell(MODEL, CONSTITUTION))) == 4
        assert len(server.requests) == 6
        assert make(home, data)
        assert len(server.requests) == 6
    with serving(answers) as elsewhere:  # the same server at another address: nothing to ask
        served_by(elsewhere, data)
        assert make(home, data)
        assert not elsewhere.requests
        (data / "recipes" / "generation.yaml").write_text(f"backend: {{api_base: '{elsewhere.url}', model: other}}\n")
        assert make(home, data)
        assert {request["model"] for request in elsewhere.requests} == {"other"}


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **keywords: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("rlaif_dagster.language.base_model.load", load)
