"""LoRA adapters (arXiv 2106.09685) as ordinary peft folders: made from a recipe, saved, merged, and joined into one.

A policy trained on top of another adapter is published as one adapter on the plain base model. That is exact, not an
approximation: two low-rank updates are a low-rank update of the summed rank,

    s1 B1 A1 + s2 B2 A2 = [s1 B1, s2 B2] [A1; A2],    s = alpha / r  (alpha / sqrt(r) with rsLoRA)

so the scales go into B and the joined adapter has alpha = r, scale 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlaif_dagster.errors import UserError
from rlaif_dagster.language import quantization
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.quiet import quiet_loading
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.quiet import quiet

LINEAR = (torch.nn.Linear, Conv1D)
WEIGHTS = "adapter_model.safetensors"
FACTORS = (".lora_A.weight", ".lora_B.weight")


def lora_config(lm: LanguageModel, lora: Lora, *, task: str) -> LoraConfig:
    """The configuration that peft wants for a recipe's adapter; `task` is its name for it, CAUSAL_LM or SEQ_CLS.

    Raises UserError when a target module is no linear layer of the model's trunk.
    """
    targets = lora.target_modules
    if not isinstance(targets, str):
        layers = (name for name, module in lm.model.base_model.named_modules() if isinstance(module, LINEAR))
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        if wrong := [target for target in targets if target.rsplit(".", 1)[-1] not in known]:
            raise UserError(
                f"model {lm.name}: field 'lora.target_modules' names {', '.join(wrong)}; allowed: all-linear, or some of "
                f"{', '.join(known)}"
            )
    return LoraConfig(
        task_type=task, r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )  # fmt: skip


def detach_base(model: PeftModel) -> None:
    """Forget where the base was loaded from while training: peft would ask the hub for its configuration at every
    checkpoint."""
    model.peft_config["default"].base_model_name_or_path = ""


def save(model: PeftModel, folder: Path, lm: LanguageModel) -> None:
    """Write the adapter as `adapter_model.safetensors` and `adapter_config.json`, naming the base by its repository (by its
    name in data/models where it has none), never by a local path."""
    hub = lm.spec.hub
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = (hub.repo, hub.revision) if hub else (lm.name, None)
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def merge(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model with an adapter added to its weights, in place. Raises UserError where the folder has none as safetensors."""
    _check(folder)
    with quiet(), quiet_loading():
        return replace(lm, model=PeftModel.from_pretrained(lm.model, str(folder)).merge_and_unload().eval())


def with_adapter(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model that an adapter makes of `lm`, frozen, in place: what is evaluated, and what training on top of it starts from.

    In float32 it is merged, which costs nothing afterwards. In 16 bits or fewer a merge would round the update away in part, and
    what is evaluated or trained upon would not be what was trained: there it is added to each layer's output.
    """
    if quantization.merges(lm.model):
        return merge(lm, folder)
    lay_beside(lm.model, folder)
    return lm


def lay_beside(model: PreTrainedModel, folder: Path) -> list[RemovableHandle]:
    """Let a frozen adapter add to the outputs of `model`'s layers; what is returned takes it off again, without a trace.
    Raises UserError where the folder has none as safetensors."""
    _check(folder)
    handles = []
    for name, (a, b) in _scaled_factors(folder).items():
        layer = model.get_submodule(name.removeprefix("base_model.model."))
        handles.append(layer.register_forward_hook(_FrozenUpdate(a.to(model.device), b.to(model.device))))
    return handles


def _check(folder: Path) -> None:
    if not (folder / WEIGHTS).is_file():  # peft would go on to adapter_model.bin, which is a pickle
        raise UserError(
            f"{folder}: no {WEIGHTS}; adapters are read as safetensors only: run `rlaif up` to train it again"
        )


@dataclass(frozen=True)
class _FrozenUpdate:
    """A layer's forward hook that adds B A x to its output, the sum in float32 before it is rounded, as peft's layers do."""

    a: torch.Tensor
    b: torch.Tensor

    def __call__(self, layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return (output + inputs[0].float() @ self.a.T @ self.b.T).to(output.dtype)


def concatenate(first: Path, second: Path, target: Path) -> None:
    """Write to `target` the adapter that does what `first` and `second` do one upon the other.

    Ranks, scales and target modules may differ; a module that one of them lacks gets zeros for its part. Raises ValueError
    for what is no plain LoRA (DoRA, trained biases, whole modules, embeddings).
    """
    updates = [_scaled_factors(folder) for folder in (first, second)]
    modules = sorted(updates[0].keys() | updates[1].keys())
    ranks = [max((a.shape[0] for a, _ in update.values()), default=0) for update in updates]
    tensors = {}
    for module in modules:
        parts = [update.get(module) for update in updates]
        like_a, like_b = next(part for part in parts if part is not None)
        a_blocks, b_blocks = [], []
        for part, rank in zip(parts, ranks, strict=True):
            a, b = part or (like_a[:0], like_b[:, :0])
            a_blocks += [a, a.new_zeros(rank - a.shape[0], *a.shape[1:])]
            b_blocks += [b, b.new_zeros(b.shape[0], rank - b.shape[1], *b.shape[2:])]
        tensors[module + FACTORS[0]] = torch.cat(a_blocks, dim=0).contiguous()
        tensors[module + FACTORS[1]] = torch.cat(b_blocks, dim=1).contiguous()
    config = LoraConfig.from_pretrained(str(second))
    joined = LoraConfig(
        task_type=config.task_type, r=sum(ranks), lora_alpha=sum(ranks), inference_mode=True,
        target_modules=sorted({module.rsplit(".", 1)[-1] for module in modules}),
        base_model_name_or_path=config.base_model_name_or_path, revision=config.revision,
    )  # fmt: skip
    target.mkdir(parents=True, exist_ok=True)
    joined.save_pretrained(str(target))
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})


def _scaled_factors(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`scaled_factors` of an adapter's folder, by the module's name in the file."""
    config = LoraConfig.from_pretrained(str(folder))
    tensors = load_file(folder / WEIGHTS)
    strange = [name for name in tensors if not name.endswith(FACTORS)]
    if strange or config.use_dora or config.bias != "none" or config.modules_to_save:
        raise ValueError(
            f"{folder}: not a plain LoRA adapter and cannot be joined exactly: {strange or 'see its config'}"
        )
    return scaled_factors(tensors, config)


def scaled_factors(
    tensors: Mapping[str, torch.Tensor], config: LoraConfig
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(A [r, in], scale * B [out, r]) of every module, in float32, by its name in `tensors`."""
    out = {}
    for name, a in tensors.items():
        if not name.endswith(FACTORS[0]):
            continue
        module = name.removesuffix(FACTORS[0])
        pattern = get_pattern_key(config.alpha_pattern.keys(), module)
        alpha, rank = config.alpha_pattern.get(pattern, config.lora_alpha), a.shape[0]
        scale = alpha / (math.sqrt(rank) if config.use_rslora else rank)
        out[module] = (a.float(), tensors[module + FACTORS[1]].float() * scale)
    return out
