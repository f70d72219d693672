"""Trained adapters, one folder a content key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from resources.warehouse import WarehouseResource

if TYPE_CHECKING:
    from rlaif_dagster.training.store import ModelStore


class ModelStoreResource(dg.ConfigurableResource):
    """The store under RLAIF_HOME/models."""

    warehouse: WarehouseResource

    def open(self) -> ModelStore:
        from rlaif_dagster.training.store import ModelStore

        return ModelStore(self.warehouse.home.models)
