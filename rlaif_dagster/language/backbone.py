"""One base model in memory that stands for each of its arms in turn: loaded once, its adapters merged and taken out again.

Evaluating four arms and their seeds would otherwise read the base weights from disk for each. Merging writes over the
weights that the adapter touches; their originals are kept in main memory and written back bit by bit, because subtracting
what was added would leave rounding behind, and the arms' numbers would depend on who came before. An arm's weights are
thus those that `base_model.load` gives. In 16 bits or fewer a merge would round the adapter away in part, and what is
evaluated would not be what was trained: there it is laid beside the layers, as in training.

A process keeps one backbone. Loading any model lets go of it, so that it never stands beside a model that trains or
judges.
"""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from torch.utils.hooks import RemovableHandle

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.home import Home
from rlaif_dagster.language.base_model import LanguageModel, load
from rlaif_dagster.language.quantization import merges
from rlaif_dagster.language.quiet import quiet_loading
from rlaif_dagster.spec.model import ModelSpec

_kept: dict[str, Backbone] = {}


@dataclass
class Backbone:
    """A base model of this process's own, the adapter that is merged into it now, and the weights that it wrote over."""

    lm: LanguageModel
    adapter: Path | None = None
    originals: dict[str, torch.Tensor] = field(default_factory=dict)
    beside: list[RemovableHandle] = field(default_factory=list)

    def arm(self, adapter: Path | None) -> LanguageModel:
        """The model with `adapter` (None: without any). It is the same object for every arm: use it before the next is
        asked for."""
        if adapter != self.adapter:
            self._restore()
            if adapter is not None:
                self._take(adapter)
        return self.lm

    def _take(self, adapter: Path) -> None:
        self.adapter = adapter
        try:
            if merges(self.lm.model):
                self._merge(adapter)
            else:
                from rlaif_dagster.training.adapters import lay_beside

                self.beside = lay_beside(self.lm.model, adapter)
        except BaseException:
            release()  # half an adapter is in the model, and nobody may use it again
            raise

    def _merge(self, adapter: Path) -> None:
        from peft import PeftModel

        model = self.lm.model
        for name in merged_weights(adapter):
            self.originals[name] = model.get_parameter(name).detach().to("cpu", copy=True)
        with quiet_loading():
            PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        model.requires_grad_(False).eval()
        if hasattr(model, "peft_config"):  # else the next adapter would count as a second one
            del model.peft_config

    @torch.no_grad()
    def _restore(self) -> None:
        for name, original in self.originals.items():
            self.lm.model.get_parameter(name).copy_(original)
        for handle in self.beside:
            handle.remove()
        self.originals, self.beside, self.adapter = {}, [], None


def backbone(name: str, spec: ModelSpec, home: Home) -> Backbone:
    """The process's backbone of this model, loaded where it is not the one that is kept."""
    key = content_hash(name, spec.meaning(), str(home.root))
    if key not in _kept:
        _kept[key] = Backbone(load(name, spec, home))  # which lets go of the one before
    return _kept[key]


def release() -> None:
    """Let go of the kept backbone. Where nobody uses it any more its memory is free, for other processes of the machine too."""
    _kept.clear()
    if torch.cuda.is_initialized():  # torch's allocator keeps freed blocks for this process unless it is told
        gc.collect()
        torch.cuda.empty_cache()


def merged_weights(adapter: Path) -> list[str]:
    """Names of the base model's parameters that a LoRA adapter changes. Raises ValueError for an adapter that brings whole
    weights of its own or biases, which cannot be taken out again so."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        keys = list(file.keys())
    names = {key.removeprefix("base_model.model.").rpartition(".lora_A")[0] for key in keys if ".lora_A" in key}
    whole = [key for key in keys if ".lora_" not in key]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or whole or not names:
        raise ValueError(f"{adapter}: not a plain LoRA adapter: {', '.join(whole[:3]) or config.get('peft_type')}")
    return sorted(f"{name}.weight" for name in names)
