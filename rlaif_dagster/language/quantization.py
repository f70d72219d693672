"""A base model whose linear layers are held in 4 bits (NF4 with doubly quantized scales, arXiv 2305.14314), by bitsandbytes.

Embeddings, norms and the output layer stay in the model's `dtype`, in which all products are computed: a layer's weights are
expanded for the moment of its product. Such weights cannot take an adapter in: what is merged would be rounded to 4 bits
again. So adapters are always laid beside them, in training and in evaluation.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from rlaif_dagster.errors import UserError
from rlaif_dagster.spec.model import ModelSpec


def keywords(name: str, spec: ModelSpec, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is given beside the ordinary; nothing for a base that is not quantized.

    Raises UserError where bitsandbytes is not installed.
    """
    if spec.quantization == "none":
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"model {name}: field 'quantization' is {spec.quantization}, which needs bitsandbytes: "
            "pip install -c requirements.lock -e '.[quantized]'"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, spec.dtype),
    )  # fmt: skip
    return {"quantization_config": config, "device_map": {"": device}}


def in_one_precision(model: torch.nn.Module) -> None:
    """Let layers compute in the model's `dtype` on a CPU too: bitsandbytes would multiply in bfloat16 there, but only outside
    training, and a policy would differ from itself."""
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def is_quantized(model: torch.nn.Module) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False))


def merges(model: torch.nn.Module) -> bool:
    """Whether an adapter can be added to the model's weights without being rounded away: in float32, not quantized."""
    return not is_quantized(model) and getattr(model, "dtype", None) == torch.float32
