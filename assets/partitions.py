"""The grid, read from the folders: a new file is a new partition after a reload."""

from __future__ import annotations

import dagster as dg

from rlaif_dagster.spec.project import Project
from rlaif_dagster.warehouse.store import Cell

_project = Project.current()
MODELS = dg.StaticPartitionsDefinition(_project.names("models"))
CONSTITUTIONS = dg.StaticPartitionsDefinition(_project.names("constitutions"))
GRID = dg.MultiPartitionsDefinition({"constitution": CONSTITUTIONS, "model": MODELS})

BY_DIMS: dict[tuple[str, ...], dg.PartitionsDefinition | None] = {
    (): None,
    ("model",): MODELS,
    ("constitution",): CONSTITUTIONS,
    ("model", "constitution"): GRID,
}


def is_loaded(cell: Cell) -> bool:
    """Did its model and its constitution have files when the definitions were loaded? Dagster refuses others."""
    return (cell.model is None or cell.model in MODELS.get_partition_keys()) and (
        cell.constitution is None or cell.constitution in CONSTITUTIONS.get_partition_keys()
    )


def dims_of(partitions: dg.PartitionsDefinition | None) -> tuple[str, ...]:
    """The dimensions that a partitions definition spans, in the order of BY_DIMS."""
    return next(dims for dims, known in BY_DIMS.items() if known == partitions)


def cell_of(context: dg.AssetExecutionContext) -> Cell:
    """The cell that a step works on."""
    if not context.has_partition_key:
        return Cell()
    key = context.partition_key
    if isinstance(key, dg.MultiPartitionKey):
        return Cell(**key.keys_by_dimension)
    (dim,) = dims_of(context.assets_def.partitions_def)
    return Cell(**{dim: key})
