"""The forward pass of LoRA layers with less beside its products than peft's own, which PPO runs ten thousand times an update.

The scaling is applied to A x, which is as wide as the rank, and not to B A x, which is as wide as the layer: one pass over memory
less forwards, and one less backwards. Where it is a power of two, as with the default alpha of twice the rank, the result is the
same to the last bit.
"""

from __future__ import annotations

from types import MethodType

import torch
from peft.tuners.lora import layer as lora
from torch import Tensor
from torch.nn.functional import linear


def use_narrow_scaling(trunk: torch.nn.Module) -> None:
    """Have every plain LoRA layer of `trunk` (linear, on weights that are not quantized) computed so, whatever its adapters."""
    for module in trunk.modules():
        if type(module) is lora.Linear and type(module.base_layer) is torch.nn.Linear:
            module.forward = MethodType(_forward, module)


def _forward(layer: lora.Linear, x: Tensor) -> Tensor:
    """W x + sum of scaling B A x over the active adapters, in the type of W x."""
    base: Tensor = layer.base_layer(x)
    result = base
    for name in layer.active_adapters:
        if name in layer.lora_A:
            a, b = (
                layer.lora_A[name].weight,
                layer.lora_B[name].weight,
            )  # neither has a bias: only plain adapters come here
            result = result + linear(linear(x.to(a.dtype), a) * layer.scaling[name], b)
    return result.to(base.dtype)
