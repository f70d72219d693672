"""A language model whose weights are in the shards' processes (`rlaif_dagster.shards`).

Here are the tokenizer and the model's configuration, with which work is cut into pieces; the module has no weights (torch's
meta device), so that the process which hands the work out needs neither memory nor an accelerator for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlaif_dagster.home import Home
from rlaif_dagster.language.backbone import backbone
from rlaif_dagster.language.base_model import LanguageModel, load_tokenizer, unloadable, weights_location
from rlaif_dagster.language.quiet import quiet_loading
from rlaif_dagster.spec.model import ModelSpec


@dataclass(frozen=True)
class Weights:
    """What a shard loads: a base model, and the adapter of an arm where it is one."""

    name: str
    spec: ModelSpec
    home: Home
    adapter: Path | None = None

    def load(self) -> LanguageModel:
        """The model in this process, which keeps the base of it."""
        return backbone(self.name, self.spec, self.home).arm(self.adapter)


@dataclass(frozen=True)
class ShardedModel(LanguageModel):
    """A causal model that is elsewhere."""

    weights: Weights


def sharded(name: str, spec: ModelSpec, home: Home, adapter: Path | None = None) -> ShardedModel:
    """The model as `base_model.load` would load it, with its weights left to the shards. Raises UserError as that does."""
    location, keywords = weights_location(spec, home)
    try:
        tokenizer = load_tokenizer(spec, home)
        with quiet_loading(), torch.device("meta"):
            config = AutoConfig.from_pretrained(location, trust_remote_code=False, **keywords)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise unloadable(name, spec, location, error) from error
    return ShardedModel(name, spec, tokenizer, model.eval(), Weights(name, spec, home, adapter))
