"""All tables cut to one cell of the grid, as the report reads them."""

from __future__ import annotations

import pandas as pd

from rlaif_dagster.home import Home
from rlaif_dagster.records import partition_key
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.sql import connect
from rlaif_dagster.warehouse.store import Cell


def cell_tables(home: Home, cell: Cell) -> dict[str, pd.DataFrame]:
    """Every table's rows of the cell, the base arm's among them; of `lineage`, the latest record of each asset that the
    cell depends on."""
    models = [cell.model] if cell.model else None
    constitutions = [cell.constitution] if cell.constitution else None
    with connect(home, models, constitutions) as database:
        tables = {name: database.table(name).df() for name in TABLES if name != "lineage"}
        partitions = [partition_key(part) for part in (cell, Cell(cell.model), Cell(None, cell.constitution))]
        tables["lineage"] = database.execute(
            """
            SELECT * FROM lineage WHERE partition IS NULL OR list_contains(?, partition)
            QUALIFY row_number() OVER (PARTITION BY asset, partition ORDER BY started_at DESC) = 1
            ORDER BY started_at
            """,
            [partitions],
        ).df()
    return tables
