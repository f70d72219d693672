"""The assets that readers meet, run for real on stored tables: a cell's files, then the study page and results.duckdb."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets.results import report, results
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.home import CHECKOUT, Home, report_path
from tests.rlaif_dagster.report.study import MODEL, NAME, store, study_tables

PARTITION = dg.MultiPartitionKey({"model": MODEL, "constitution": NAME})


@pytest.fixture
def resources(home: Home) -> dict[str, dg.ConfigurableResource]:
    store(study_tables(), home)
    folders = ProjectResource(folder=str(CHECKOUT / "data")), WarehouseResource(folder=str(home.root))
    return dict(zip(("project", "warehouse"), folders, strict=True))


def test_a_cells_files_and_the_study_page_come_out_of_the_graph(
    home: Home, resources: dict[str, dg.ConfigurableResource]
) -> None:
    made = dg.materialize([report], resources=resources, partition_key=PARTITION)
    page = report_path(home, MODEL, NAME)
    assert made.success
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (page.parent / "report.md").read_text(encoding="utf-8").startswith(f"# {MODEL} under")
    assert {path.suffix for path in (page.parent / "plots").iterdir()} == {".svg", ".pdf"}
    shown = made.asset_materializations_for_node("report")[0].metadata
    assert "PPO did better than DPO" in str(shown["summary"].value)

    made = dg.materialize([results], resources=resources)
    assert made.success
    study = home.warehouse / "report" / "study.html"
    text = study.read_text(encoding="utf-8")
    assert f'href="model%3D{MODEL}/constitution%3D{NAME}/report.html"' in text
    large = "harmlessness · llama-3.1-8b-instruct, harmlessness · llama-3.1-8b-instruct-4bit"
    assert f"Not made yet: {large}, harmlessness · {MODEL}" in text
    with duckdb.connect(str(home.warehouse / "results.duckdb"), read_only=True) as database:
        assert database.execute("select count(distinct arm) from responses").fetchone() == (4,)
    assert Path(made.asset_materializations_for_node("results")[0].metadata["file"].value).exists()
