"""The base model of a cell, with or without a trained adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.warehouse import WarehouseResource
from rlaif_dagster.shards import shards

if TYPE_CHECKING:
    from rlaif_dagster.language.base_model import Answerer, LanguageModel
    from rlaif_dagster.spec.model import ModelSpec
    from rlaif_dagster.spec.recipes import Generation
    from rlaif_dagster.training.trained import Trained


class LanguageModelResource(dg.ConfigurableResource):
    """Loads weights; torch is imported only when a step asks for them. The model's file is the step's own view of it: what
    is loaded is what the result is kept under."""

    warehouse: WarehouseResource

    def load(self, model: str, spec: ModelSpec, adapter: Path | None = None) -> LanguageModel:
        """A fresh copy of the base model, `adapter` merged into it where one is given."""
        from rlaif_dagster.language.base_model import load

        return load(model, spec, self.warehouse.home, adapter=adapter)

    def train(
        self, function: Callable[..., Trained], model: str, spec: ModelSpec, *given: Any, **named: Any
    ) -> Trained:
        """`function` of a fresh copy of the base model and what is given: in this process, or in several with a GPU each."""
        from rlaif_dagster.training.processes import Call, train

        return train(Call(function, model, spec, self.warehouse.home, given, named))

    def answering(self, model: str, spec: ModelSpec, recipe: Generation) -> Answerer:
        """What samples the candidates: the base model in memory, vLLM, or the server that the recipe names."""
        if recipe.backend == "transformers":
            return self._sharded(model, spec) if shards() else self.load(model, spec)
        from rlaif_dagster.spec.recipes import OwnVllm

        if isinstance(recipe.backend, OwnVllm):
            from rlaif_dagster.language.vllm import VllmModel

            return VllmModel(model, spec, recipe.backend.vllm, self.warehouse.home)
        from rlaif_dagster.language.endpoint import EndpointModel

        return EndpointModel(model, spec, recipe.backend)

    def arm(self, model: str, spec: ModelSpec, adapter: Path | None = None) -> LanguageModel:
        """The same weights on the backbone that this process keeps: for reading only, and only until the next arm is
        asked for."""
        if shards():
            return self._sharded(model, spec, adapter)
        from rlaif_dagster.language.backbone import backbone

        return backbone(model, spec, self.warehouse.home).arm(adapter)

    def _sharded(self, model: str, spec: ModelSpec, adapter: Path | None = None) -> LanguageModel:
        """The model with its weights in the shards' processes."""
        from rlaif_dagster.language.sharded import sharded

        return sharded(model, spec, self.warehouse.home, adapter)
