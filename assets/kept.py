"""What sensor and schedules look at before they decide: the user's files, the graph's state, and the cells to be kept."""

from __future__ import annotations

from assets.graph import graph_state
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.automation import kept_cells
from rlaif_dagster.bucket.local_copy import refresh
from rlaif_dagster.inputs import check_inputs
from rlaif_dagster.resolver import State
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell


def look(project: ProjectResource, warehouse: WarehouseResource) -> tuple[Project, State, set[Cell]]:
    """The files, every one checked; the graph as they and the records (the store's, where there is one) make it; the cells
    that are kept up to date. Raises UserError, which fails the tick with the line that says which file is wrong."""
    files = project.open()
    check_inputs(files)
    refresh(warehouse.home)
    state = graph_state(files, warehouse.open())
    return files, state, kept_cells(files, state)
