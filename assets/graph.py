"""All assets in one list, and the graph as the resolver sees it."""

from __future__ import annotations

from functools import lru_cache

import dagster as dg

from assets.data import DATA_ASSETS
from assets.evaluation import EVALUATION_ASSETS
from assets.inputs import INPUT_ASSETS
from assets.policies import POLICY_ASSETS
from assets.preferences import PREFERENCE_ASSETS
from assets.results import RESULT_ASSETS
from rlaif_dagster.lineage.graph import nodes_of, state_of
from rlaif_dagster.resolver import Node, State
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Warehouse

ASSETS: list[dg.AssetsDefinition | dg.SourceAsset] = [
    *INPUT_ASSETS,
    *DATA_ASSETS,
    *PREFERENCE_ASSETS,
    *POLICY_ASSETS,
    *EVALUATION_ASSETS,
    *RESULT_ASSETS,
]


@lru_cache(maxsize=1)
def graph_nodes() -> dict[str, Node]:
    return nodes_of(ASSETS)


def graph_state(project: Project, warehouse: Warehouse) -> State:
    """The graph with its current versions."""
    return state_of(graph_nodes(), project, warehouse)


def made_by(dims: tuple[str, ...]) -> list[str]:
    """The assets (inputs aside) that are partitioned by exactly these dimensions."""
    return [node.asset for node in graph_nodes().values() if node.dims == dims and node.code_version]
