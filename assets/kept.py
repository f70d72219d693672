"""What sensor and schedules look at before they decide: the user's files, the graph's state, and the cells to be kept."""

from __future__ import annotations

from dataclasses import dataclass

from assets.graph import graph_state
from assets.partitions import is_loaded
from resources.project import ProjectResource
from resources.warehouse import WarehouseResource
from rlaif_dagster.automation import kept_cells
from rlaif_dagster.bucket.local_copy import refresh
from rlaif_dagster.inputs import check_inputs
from rlaif_dagster.resolver import State
from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell


@dataclass(frozen=True)
class Look:
    """The files, the graph as they and the records make it, the cells that are kept up to date, and those that would be if
    Dagster knew of them: their files are newer than its definitions."""

    files: Project
    state: State
    kept: set[Cell]
    unknown: set[Cell]

    @property
    def remedy(self) -> str:
        """What to do about the unknown cells; empty where there are none."""
        names = ", ".join(sorted(f"{cell.constitution} {cell.model}" for cell in self.unknown))
        return names and f"; new since the definitions were loaded, so press Reload definitions for: {names}"


def look(project: ProjectResource, warehouse: WarehouseResource) -> Look:
    """Every file is checked, and the records are the store's, where there is one. Raises UserError, which fails the tick with
    the line that says which file is wrong."""
    files = project.open()
    check_inputs(files)
    refresh(warehouse.home)
    state = graph_state(files, warehouse.open())
    cells = kept_cells(files, state)
    known = {cell for cell in cells if is_loaded(cell)}
    return Look(files, state, known, cells - known)
