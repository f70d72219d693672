"""One frozen base model that is policy, reference and reward model by turns, by the LoRA adapters that are switched on.

Plain PPO holds four models and needs over three times the memory of supervised training; sharing the base undoes that
(Hydra-PPO, arXiv 2309.00754). What differs between the four is low rank and lives beside the frozen weights:

    role        base in float32 (S = the SFT adapter)        base in a 16-bit type, or quantized
    policy      (W + S) + P                                  W + S + P
    reference   (W + S)                                      W + S
    reward      (W + S) + R - S                              W + R
    value       (W + S) + V - S                              W + V          where it has an adapter of its own
    plain       (W + S) - S                                  W              the base model, for a judge that reads with it

In float32 the SFT adapter is merged into the weights, which makes the passes that run most often the cheapest, and is taken
off again where the reward model runs, because that was trained on the plain base; adding and subtracting the same product
costs rounding of about 1e-6. In 16 bits or 4 a merge would round the adapter itself away, so adapters are stacked. Without
an SFT start, S is absent.

The value head is one linear layer, on the policy's own last hidden state or on that of an adapter V. V begins as a copy of the
reward model (adapter and head), which already knows what answers are worth (arXiv 2403.17031, detail 12), and costs a pass of
its own; without a reward model it begins without effect on the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils import load_peft_weights
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from rlaif_dagster.errors import UserError
from rlaif_dagster.language import quantization
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.ppo.low_rank import use_narrow_scaling
from rlaif_dagster.training.ppo.rows import ATTENTION, Packed, Rows

Role = Literal["policy", "reference", "reward", "value", "plain"]
State = Mapping[str, Tensor]
TOLERANCE = (
    0.02  # of the self-check, relative to the largest hidden state: 16-bit rounding passes, a wrong mask does not
)


VALUE = "value_"  # what the names of the value function's tensors begin with in a policy's state
VALUE_HEAD, VALUE_ADAPTER = f"{VALUE}head.", f"{VALUE}adapter."


class Backbone:
    """The frozen base of `lm` (altered in place) with its adapters and the value head."""

    holds_base = True  # the plain base model can be had from it

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
        """`start` is the folder of the SFT adapter; `reward` the reward adapter's tensors, named relative to the backbone,
        with its configuration. The policy adapter starts without effect, drawn from `seed`. With `own_value` the value function
        has an adapter of its own, which starts as the reward model (adapter and `reward_head` [1, hidden]) where there is one.
        """
        self.lm = lm
        lm.model.requires_grad_(False)
        self.prefix = lm.model.base_model_prefix
        self.trunk: torch.nn.Module = getattr(lm.model, self.prefix)
        output = lm.model.get_output_embeddings()
        self.output_weight: Tensor = output.weight
        self.output_bias: Tensor | None = getattr(output, "bias", None)
        self.own_value = own_value
        self._plain_attention = str(lm.model.config._attn_implementation)
        use_rows(lm)
        self.adapters: dict[Role, list[str]] = {
            "policy": ["policy"], "reference": [], "reward": ["reward"], "value": ["value"], "plain": [],
        }  # fmt: skip
        if start is not None:
            self._add(
                "sft",
                PeftConfig.from_pretrained(str(start)),
                backbone_names(load_peft_weights(str(start)), self.prefix),
            )
            self._start_from("sft", value_on_base=reward is not None)
        if reward is not None:
            self._add("reward", reward[1], reward[0])
        self.lora_config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            target_modules=lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules),
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._add("policy", self.lora_config, None)
            if own_value:
                config, state = (reward[1], reward[0]) if reward is not None else (self.lora_config, None)
                self._add("value", config, state)
        self.value_head = value_head(lm, reward_head if own_value else None)
        self._active: Role | None = None
        self.activate("policy")

    # --- adapters ----------------------------------------------------------------------------------------------------

    def _layers(self) -> Iterator[tuple[str, LoraLayer]]:
        return ((name, module) for name, module in self.trunk.named_modules() if isinstance(module, LoraLayer))

    def _add(self, name: str, config: LoraConfig, state: State | None) -> None:
        """Inject an adapter, with the tensors of `state` where given: all of them must find their place."""
        if state is not None:
            config = _frozen_config(config, state)
        try:
            inject_adapter_in_model(config, self.trunk, name)
        except ValueError as error:
            raise UserError(f"adapter {name}: does not fit the base model: {error}") from error
        del self.trunk.peft_config  # peft would warn about the next adapter
        use_narrow_scaling(self.trunk)
        for parameter in self._parameters(name).values():
            parameter.data = parameter.data.float()
        if state is not None:
            self._load(name, state)

    def _parameters(self, adapter: str) -> dict[str, torch.nn.Parameter]:
        """The adapter's parameters by their name in a peft file, relative to the backbone."""
        return {
            f"{name}.{part}.weight": getattr(module, part)[adapter].weight
            for name, module in self._layers()
            for part in ("lora_A", "lora_B")
            if adapter in module.lora_A
        }

    def _load(self, adapter: str, state: State) -> None:
        parameters = self._parameters(adapter)
        shapes = [{name: value.shape for name, value in part.items()} for part in (parameters, state)]
        if different := sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()}):
            raise UserError(
                f"adapter {adapter}: {len(different)} tensors do not fit the base model, such as {different[0]}; "
                "only plain LoRA adapters of this base model can be used"
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state[name])

    def _start_from(self, adapter: str, *, value_on_base: bool) -> None:
        """Make base + `adapter` the reference and the policy's start (see the table above)."""
        if not quantization.merges(self.lm.model):
            self.adapters["policy"], self.adapters["reference"] = [adapter, "policy"], [adapter]
            self.adapters["value"] = ["value"] if value_on_base else [adapter, "value"]
            return
        with torch.no_grad():
            for _, layer in self._layers():
                layer.get_base_layer().weight.add_(layer.get_delta_weight(adapter))
                layer.scaling[adapter] = -layer.scaling[adapter]
        self.adapters["reward"], self.adapters["plain"] = ["reward", adapter], [adapter]
        self.adapters["value"] = ["value", adapter] if value_on_base else ["value"]

    def activate(self, role: Role) -> None:
        """Switch on the adapters of `role`; what is trained stays trainable throughout."""
        if role == self._active:
            return
        for _, layer in self._layers():
            layer.set_adapter(self.adapters[role], inference_mode=True)
        for parameter in (*self.policy_parameters().values(), *self.value_parameters().values()):
            parameter.requires_grad_(True)
        self._active = role

    def policy_parameters(self) -> dict[str, torch.nn.Parameter]:
        """What is trained of the policy, by its name in a peft file, relative to the backbone."""
        return self._parameters("policy")

    def value_parameters(self) -> dict[str, torch.nn.Parameter]:
        """What is trained of the value function beside its head: its own adapter, where it has one."""
        return self._parameters("value") if self.own_value else {}

    def policy_state(self) -> dict[str, Tensor]:
        """A copy of the trainable state on the CPU: the policy adapter and the value function."""
        return trainable_state(self.policy_parameters(), self.value_parameters(), self.value_head)

    def load_policy(self, state: State) -> None:
        """Put back what `policy_state` returned."""
        self.value_head.load_state_dict(part(state, VALUE_HEAD))
        self._load("policy", {name: value for name, value in state.items() if not name.startswith(VALUE)})
        if self.own_value:
            self._load("value", part(state, VALUE_ADAPTER))

    def policy_adapter(self, state: State) -> tuple[LoraConfig, dict[str, Tensor]]:
        """The policy of a `policy_state` as an adapter upon what training started from."""
        return self.lora_config, {name: value for name, value in state.items() if not name.startswith(VALUE)}

    @contextmanager
    def as_plain_model(self) -> Iterator[LanguageModel]:
        """The base model as it was loaded (up to rounding, where an adapter was merged), inside the block."""
        self.activate("plain")
        self.lm.model.set_attn_implementation(self._plain_attention)
        try:
            yield self.lm
        finally:
            self.lm.model.set_attn_implementation(ATTENTION)
            self.activate("policy")

    # --- passes --------------------------------------------------------------------------------------------------------

    def hidden(self, rows: Rows, tokens: Tensor, positions: Tensor) -> Tensor:
        """Last hidden states [N, hidden] of the active role, for `tokens` and `positions` [N] laid out as `rows` says."""
        return hidden_states(self.trunk, rows, tokens, positions)

    def packed_hidden(self, packed: Packed) -> Tensor:
        return self.hidden(packed, packed.tokens, packed.positions)

    @property
    def trained_trunks(self) -> list[torch.nn.Module]:
        """What gradients flow through."""
        return [self.trunk]

    @contextmanager
    def recomputing(self, wanted: bool) -> Iterator[None]:
        """Where `wanted`, keep of every layer only what goes into it, inside the block, and compute the rest again in the
        backward pass (arXiv 1604.06174). A backward pass must find the role active that made its graph.

        Only the layers themselves are told that they are training, nothing inside them, so no dropout wakes up.
        """
        layers = [layer for trunk in self.trained_trunks for layer in trunk.modules() if wanted and _recomputes(layer)]
        for layer in layers:
            layer._gradient_checkpointing_func = _recompute
            layer.gradient_checkpointing = layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.gradient_checkpointing = layer.training = False

    def values(self, hidden: Tensor) -> Tensor:
        """Values [...] of hidden states [..., hidden], in float32."""
        values: Tensor = self.value_head(hidden.float()).squeeze(-1)
        return values


def _recomputes(layer: torch.nn.Module) -> bool:
    return isinstance(layer, GradientCheckpointingLayer)


def _recompute(forward: Callable[..., Any], *arguments: Any) -> Any:
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False)


def value_head(lm: LanguageModel, weight: Tensor | None) -> torch.nn.Linear:
    """A linear head in float32 that starts at zero, or as the reward model's head `weight` [1, hidden]."""
    head = torch.nn.Linear(lm.model.get_output_embeddings().weight.shape[1], 1, device=lm.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    if weight is not None:
        with torch.no_grad():
            head.weight.copy_(weight)
    return head


def trainable_state(
    policy: Mapping[str, Tensor], value: Mapping[str, Tensor], head: torch.nn.Linear
) -> dict[str, Tensor]:
    """Copies on the CPU, the value function's under names of their own."""
    named = dict(policy) | {f"{VALUE_ADAPTER}{name}": tensor for name, tensor in value.items()}
    named |= {f"{VALUE_HEAD}{name}": tensor for name, tensor in head.state_dict().items()}
    return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}


def part(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def use_rows(lm: LanguageModel) -> None:
    """Switch the model to the row layout and check on a few tokens that its hidden states and logits stay the same."""
    trunk = getattr(lm.model, lm.model.base_model_prefix)
    output = lm.model.get_output_embeddings()
    bias = getattr(output, "bias", None)
    tokens = torch.arange(1, 13, device=lm.device) % output.weight.shape[0]
    with torch.no_grad():
        plain = trunk(input_ids=tokens[None], use_cache=False).last_hidden_state[0]
        logits = lm.model(input_ids=tokens[None], use_cache=False).logits[0, -1]
        lm.model.set_attn_implementation(ATTENTION)
        try:
            packed = Packed.pack([tokens[:9].tolist(), tokens.tolist()], lm.device)
            ours = hidden_states(trunk, packed, packed.tokens, packed.positions)[packed.index[1]]
        except (TypeError, ValueError) as error:
            raise _unsupported(lm, str(error)) from error
    own_logits = torch.nn.functional.linear(ours[-1].to(output.weight.dtype), output.weight, bias)
    for name, mine, theirs in (("hidden states", ours, plain), ("logits", own_logits, logits)):
        error_size = float((mine - theirs).abs().max() / theirs.abs().max())
        if not error_size <= TOLERANCE:
            raise _unsupported(lm, f"its {name} differ by {error_size:.2g} of their size")


def hidden_states(trunk: torch.nn.Module, rows: Rows, tokens: Tensor, positions: Tensor) -> Tensor:
    """Last hidden states [N, hidden] of `trunk` for `tokens` and `positions` [N] laid out as `rows` says."""
    output = trunk(input_ids=tokens[None], position_ids=positions[None], use_cache=False, rows=rows)
    states: Tensor = output.last_hidden_state[0]
    return states


def _unsupported(lm: LanguageModel, why: str) -> UserError:
    kind = type(lm.model).__name__
    return UserError(f"model {lm.name}: PPO does not support the architecture {kind}: {why}; use another base model")


def _frozen_config(config: LoraConfig, state: State) -> LoraConfig:
    """What of a trained adapter's configuration shapes its effect; the modules are those that its tensors name."""
    return LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        use_rslora=config.use_rslora,
        rank_pattern=config.rank_pattern,
        alpha_pattern=config.alpha_pattern,
        target_modules=sorted({name.rpartition(".lora_")[0] for name in state}),
        inference_mode=True,
    )


def backbone_names(state: State, prefix: str) -> dict[str, Tensor]:
    """Tensors of a causal model's peft file, renamed relative to the backbone."""
    return {name.removeprefix("base_model.model.").removeprefix(f"{prefix}."): value for name, value in state.items()}


@contextmanager
def acting_as(backbone: Backbone, role: Role) -> Iterator[None]:
    """`role` inside the block, the policy after it."""
    backbone.activate(role)
    try:
        yield
    finally:
        backbone.activate("policy")
