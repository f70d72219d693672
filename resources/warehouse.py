"""The tables and the records of what was made from what."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from rlaif_dagster.home import Home, current_home
from rlaif_dagster.warehouse.store import Warehouse


class WarehouseResource(dg.ConfigurableResource):
    """The Parquet warehouse and the folders beside it."""

    folder: str | None = None  # RLAIF_HOME, else .rlaif/ in the study

    @property
    def home(self) -> Home:
        return Home(Path(self.folder).resolve()) if self.folder else current_home()

    def open(self) -> Warehouse:
        return Warehouse(self.home.warehouse)
