"""The graph's contract: an unmeant change of an asset's key, parents, partitions, group or checks fails here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.warehouse.schemas import TABLES

SNAPSHOT = Path(__file__).with_name("graph.json")
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "lm_eval", "litellm", "ray", "accelerate")


@pytest.fixture(scope="module")
def definitions():
    from rlaif_dagster.definitions import defs

    return defs


def describe(defs: dg.Definitions) -> dict[str, dict]:
    graph = defs.resolve_asset_graph()
    out = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        out[key.to_user_string()] = {
            "group": node.group_name,
            "parents": sorted(parent.to_user_string() for parent in node.parent_keys),
            "dims": list(node.metadata["rlaif/dims"]),
            "kinds": sorted(node.kinds or ()),
            "checks": sorted(check.name for check in node.check_keys),
            "code_version": node.code_version,
            "pools": sorted(node.pools or ()),
        }
    return out


def test_the_graph_is_the_one_that_was_agreed(definitions):
    """To change the graph on purpose: python -m tests.assets.test_graph writes the snapshot anew."""
    assert describe(definitions) == json.loads(SNAPSHOT.read_text())


def test_every_table_is_written_by_some_asset(definitions):
    from assets.graph import graph_nodes

    written = {file.split("/")[0] for node in graph_nodes().values() for file in node.writes}
    assert set(TABLES) - {"lineage"} <= written


def test_a_reader_of_the_graph_finds_what_each_asset_is_and_whose(definitions):
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert len(node.description or "") > 20, key
        assert node.kinds, key
        if node.is_materializable:  # an observed file is its editor's
            assert node.owners == ["team:alignment"], key
            assert "dagster/code_references" in node.metadata, key


def test_definitions_can_be_loaded_and_have_a_job_a_partition_set(definitions):
    dg.Definitions.validate_loadable(definitions)
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert {"once", "each_model", "each_constitution", "each_model_constitution"} <= names


def test_loading_the_definitions_imports_nothing_heavy():
    code = "import sys, rlaif_dagster.definitions; print([m for m in sys.argv[1:] if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *HEAVY], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


if __name__ == "__main__":
    from rlaif_dagster.definitions import defs as current

    SNAPSHOT.write_text(json.dumps(describe(current), indent=1) + "\n")
