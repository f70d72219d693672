"""Trained adapters, one folder a content key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from resources.warehouse import WarehouseResource
from rlaif_dagster.bucket.sharing import shared_adapters

if TYPE_CHECKING:
    from rlaif_dagster.training.store import ModelStore


class ModelStoreResource(dg.ConfigurableResource):
    """The store under RLAIF_HOME/models, and in the bucket where there is one."""

    warehouse: WarehouseResource

    def open(self) -> ModelStore:
        from rlaif_dagster.training.store import ModelStore

        home = self.warehouse.home
        return ModelStore(home.models, shared_adapters(home))
