"""The trained policy as one ordinary peft adapter on the plain base model, its value head beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.training.adapters import WEIGHTS, concatenate
from rlaif_dagster.training.ppo.backbone import VALUE_HEAD as HEAD
from rlaif_dagster.training.ppo.backbone import Backbone, part

VALUE_HEAD = "value_head.safetensors"
TIMINGS = "timings.json"


def publish(
    backbone: Backbone,
    state: Mapping[str, Tensor],
    timings: list[dict[str, float]],
    *,
    start_adapter: Path | None,
    target: Path,
) -> None:
    """Write the policy `state` (its adapter and the value head) to the empty folder `target`, joined exactly with the adapter
    that training started from. `timings` go into a JSON file: they are no part of what the model is."""
    if start_adapter is None:
        _write_adapter(backbone, state, target)
    else:
        with tempfile.TemporaryDirectory() as own:
            _write_adapter(backbone, state, Path(own))
            concatenate(start_adapter, Path(own), target)
    # one entry at most: safetensors writes several in a random order, and the file is part of the digest
    save_file(part(state, HEAD), target / VALUE_HEAD, metadata={"format": "pt"})
    (target / TIMINGS).write_text(json.dumps(timings, indent=1), encoding="utf-8")


def _write_adapter(backbone: Backbone, state: Mapping[str, Tensor], folder: Path) -> None:
    shape, adapter = backbone.policy_adapter(state)
    config = LoraConfig(**_shape(shape), **_base(backbone.lm), task_type="CAUSAL_LM", inference_mode=True)
    config.target_modules = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in adapter})
    config.save_pretrained(str(folder))
    tensors = {f"base_model.model.{backbone.prefix}.{name}": value.contiguous() for name, value in adapter.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _shape(config: LoraConfig) -> dict[str, Any]:
    return {"r": config.r, "lora_alpha": config.lora_alpha}


def _base(lm: LanguageModel) -> dict[str, Any]:
    """The base by its repository, or by its name in data/models; never by a local path."""
    hub = lm.spec.hub
    return (
        {"base_model_name_or_path": hub.repo, "revision": hub.revision} if hub else {"base_model_name_or_path": lm.name}
    )
