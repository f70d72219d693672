"""LoRA layers with the scaling where it is narrow: peft's own numbers, forwards and backwards."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer

from rlaif_dagster.training.ppo.low_rank import use_narrow_scaling


def layers(alpha: int, *names: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Two linear layers with adapters of rank 4, all of them active, in float32 as PPO has them."""
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(24, 40, bias=True), torch.nn.Linear(40, 8, bias=False)).to(dtype)
    for name in names:
        inject_adapter_in_model(LoraConfig(r=4, lora_alpha=alpha, target_modules=["0", "1"]), trunk, name)
        del trunk.peft_config  # peft would warn about the next adapter
    for layer in trunk.modules():
        if isinstance(layer, LoraLayer):
            layer.set_adapter(list(names))
            for parameter in (*layer.lora_A.parameters(), *layer.lora_B.parameters()):
                parameter.data = torch.randn_like(parameter, dtype=torch.float32) * 0.1
                parameter.requires_grad_(True)
    return trunk


def passes(trunk: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, and the gradients of the adapters and of what went in."""
    x = x.clone().requires_grad_(True)
    out = trunk(x)
    (out.float() ** 2).sum().backward()
    trained = [p for name, p in trunk.named_parameters() if ".lora_" in name]
    found = [out.detach(), *(p.grad for p in trained), x.grad]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


@pytest.mark.parametrize("names", [("policy",), ("reward", "sft")])
def test_it_is_pefts_result_to_the_last_bit_where_the_scaling_is_a_power_of_two(names: tuple[str, ...]) -> None:
    peft, ours = layers(8, *names), layers(8, *names)
    use_narrow_scaling(ours)
    x = torch.randn(30, 24)
    for mine, theirs in zip(passes(ours, x), passes(peft, x), strict=True):
        assert torch.equal(mine, theirs)


def test_other_scalings_differ_by_rounding() -> None:
    peft, ours = layers(5, "policy"), layers(5, "policy")
    use_narrow_scaling(ours)
    x = torch.randn(30, 24)
    for mine, theirs in zip(passes(ours, x), passes(peft, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_an_adapter_that_is_taken_off_counts_no_more_and_a_negative_scaling_takes_away() -> None:
    trunk = layers(8, "policy", "sft")
    plain = copy.deepcopy(trunk[0].base_layer)
    use_narrow_scaling(trunk)
    x = torch.randn(5, 24)
    trunk[0].set_adapter([])
    assert torch.equal(trunk[0](x), plain(x))
    trunk[0].set_adapter(["policy", "sft"])
    trunk[0].scaling["sft"] = -trunk[0].scaling["sft"]
    delta = trunk[0].get_delta_weight("policy") + trunk[0].get_delta_weight("sft")
    torch.testing.assert_close(trunk[0](x), plain(x) + x @ delta.T)


def test_the_weights_type_comes_out() -> None:
    trunk = layers(8, "policy", dtype=torch.bfloat16)
    use_narrow_scaling(trunk)
    assert trunk(torch.randn(5, 24, dtype=torch.bfloat16)).dtype == torch.bfloat16
