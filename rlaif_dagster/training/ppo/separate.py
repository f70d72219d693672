"""The other way to hold the models: each for itself, and the policy trained in full. For small models.

What one frozen backbone cannot do is move the base weights. Here policy, reference, reward model and, where it is its own,
the value model are whole trunks, two to four times the memory, and every linear layer of the policy is trained; embeddings,
norms and the output layer stay frozen. To the loop it is a `Backbone` like any other.

What is published is still an adapter on the plain base, so that everything downstream is the same: the change of a layer's
weight [out, in] is an adapter of rank min(out, in), exactly, with the identity as one of its factors.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from peft import LoraConfig
from torch import Tensor, nn

from rlaif_dagster.errors import UserError
from rlaif_dagster.language import quantization
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.adapters import merge, scaled_factors
from rlaif_dagster.training.ppo.backbone import (
    VALUE,
    VALUE_ADAPTER,
    VALUE_HEAD,
    Backbone,
    Role,
    State,
    hidden_states,
    part,
    trainable_state,
    use_rows,
    value_head,
)
from rlaif_dagster.training.ppo.rows import Rows


class SeparateModels(Backbone):
    """Whole trunks by role; those of the policy and of an own value function are trainable in every linear layer."""

    holds_base = False

    def __init__(
        self,
        lm: LanguageModel,
        lora: Lora,
        *,
        seed: int,
        start: Path | None = None,
        reward: tuple[State, LoraConfig] | None = None,
        reward_head: Tensor | None = None,
        own_value: bool = False,
    ) -> None:
        """As for `Backbone`; `lora` and `seed` have nothing to decide here. Raises UserError for a base that is not in float32,
        whose steps 16 bits would round away."""
        if not quantization.merges(lm.model):
            found = f"{lm.spec.dtype}{', quantized' if quantization.is_quantized(lm.model) else ''}"
            raise UserError(
                f"model {lm.name}: PPO with `separate: true` trains the weights themselves and needs dtype float32, found "
                f"{found}; set dtype in data/models/{lm.name}.yaml, or separate: false in data/recipes/ppo.yaml"
            )
        lm.model.requires_grad_(False)
        self.lm, self.prefix, self.own_value = lm, lm.model.base_model_prefix, own_value
        output = lm.model.get_output_embeddings()
        self.output_weight, self.output_bias = output.weight, getattr(output, "bias", None)
        use_rows(lm)
        self.trunk = getattr(lm.model, self.prefix)
        base = _linear_weights(self.trunk)
        self.trunks: dict[Role, nn.Module] = {"policy": self.trunk}
        if reward is not None:
            self.trunks["reward"] = _with_adapter(self.trunk, *reward)
        if start is not None:
            merge(lm, start)
        self.trunks["reference"] = copy.deepcopy(self.trunk)
        if own_value:
            self.trunks["value"] = copy.deepcopy(self.trunks["reward" if reward is not None else "policy"])
        self.value_head = value_head(lm, reward_head if own_value else None)
        for parameter in (*self.policy_parameters().values(), *self.value_parameters().values()):
            parameter.requires_grad_(True)
        assert self.policy_parameters().keys() == base.keys()  # merging unwraps what it wrapped
        self._active: Role = "policy"

    def activate(self, role: Role) -> None:
        self._active = role

    def hidden(self, rows: Rows, tokens: Tensor, positions: Tensor) -> Tensor:
        return hidden_states(self.trunks[self._active], rows, tokens, positions)

    @property
    def trained_trunks(self) -> list[nn.Module]:
        return [self.trunk, *([self.trunks["value"]] if self.own_value else [])]

    def policy_parameters(self) -> dict[str, nn.Parameter]:
        return _linear_weights(self.trunk)

    def value_parameters(self) -> dict[str, nn.Parameter]:
        return _linear_weights(self.trunks["value"]) if self.own_value else {}

    def policy_state(self) -> dict[str, Tensor]:
        return trainable_state(self.policy_parameters(), self.value_parameters(), self.value_head)

    def load_policy(self, state: State) -> None:
        self.value_head.load_state_dict(part(state, VALUE_HEAD))
        with torch.no_grad():
            for name, parameter in self.policy_parameters().items():
                parameter.copy_(state[name])
            for name, parameter in self.value_parameters().items():
                parameter.copy_(state[f"{VALUE_ADAPTER}{name}"])

    def policy_adapter(self, state: State) -> tuple[LoraConfig, dict[str, Tensor]]:
        """The change of every layer since the start as B A, one of them the identity, padded to one rank for all."""
        before = _linear_weights(self.trunks["reference"])
        changes = {
            name: value - before[name].detach().cpu() for name, value in state.items() if not name.startswith(VALUE)
        }
        rank = max(min(change.shape) for change in changes.values())
        tensors = {}
        for name, change in changes.items():
            rows, columns = change.shape
            b, a = (torch.eye(rows), change) if rows <= columns else (change, torch.eye(columns))
            own = a.shape[0]
            layer = name.removesuffix(".weight")
            tensors[f"{layer}.lora_A.weight"] = torch.cat([a, a.new_zeros(rank - own, columns)])
            tensors[f"{layer}.lora_B.weight"] = torch.cat([b, b.new_zeros(rows, rank - own)], dim=1)
        return LoraConfig(r=rank, lora_alpha=rank), tensors


def _linear_weights(trunk: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of the linear layers by name."""
    return {f"{name}.weight": layer.weight for name, layer in trunk.named_modules() if isinstance(layer, nn.Linear)}


def _with_adapter(trunk: nn.Module, state: State, config: LoraConfig) -> nn.Module:
    """A copy of `trunk` with an adapter added to its weights; `state` is named relative to it."""
    adapted = copy.deepcopy(trunk)
    weights = _linear_weights(adapted)
    with torch.no_grad():
        for layer, (a, b) in scaled_factors(state, config).items():
            weights[f"{layer}.weight"].add_((b @ a).to(weights[f"{layer}.weight"].device))
    return adapted
