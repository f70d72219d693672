"""One frozen base model that is policy, reference and reward model by turns, by the LoRA adapters that are switched on.

Plain PPO holds four models and needs over three times the memory of supervised training; sharing the base undoes that
(Hydra-PPO, arXiv 2309.00754). What differs between the four is low rank and lives beside the frozen weights:

    role        base in float32 (S = the SFT adapter)        base in a 16-bit type
    policy      (W + S) + P                                  W + S + P
    reference   (W + S)                                      W + S
    reward      (W + S) + R - S                              W + R

In float32 the SFT adapter is merged into the weights, which makes the passes that run most often the cheapest, and is taken
off again where the reward model runs, because that was trained on the plain base; adding and subtracting the same product
costs rounding of about 1e-6. In 16 bits a merge would round the adapter itself away, so adapters are stacked. Without
an SFT start, S is absent. The value head is one linear layer on the policy's last hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils import load_peft_weights
from torch import Tensor

from rlaif_dagster.errors import UserError
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.spec.recipes import Lora
from rlaif_dagster.training.ppo.rows import ATTENTION, Packed, Rows

Role = Literal["policy", "reference", "reward"]
State = Mapping[str, Tensor]
TOLERANCE = (
    0.02  # of the self-check, relative to the largest hidden state: 16-bit rounding passes, a wrong mask does not
)


class Backbone:
    """The frozen base of `lm` (altered in place) with its adapters and the value head."""

    def __init__(
        self,
        lm: LanguageModel,
        lora: Lora,
        *,
        seed: int,
        start: Path | None = None,
        reward: tuple[State, LoraConfig] | None = None,
    ) -> None:
        """`start` is the folder of the SFT adapter; `reward` the reward adapter's tensors, named relative to the backbone,
        with its configuration. The policy adapter starts without effect, drawn from `seed`."""
        self.lm = lm
        lm.model.requires_grad_(False)
        self.prefix = lm.model.base_model_prefix
        self.trunk: torch.nn.Module = getattr(lm.model, self.prefix)
        output = lm.model.get_output_embeddings()
        self.output_weight: Tensor = output.weight
        self.output_bias: Tensor | None = getattr(output, "bias", None)
        self._use_rows()
        self.adapters: dict[Role, list[str]] = {"policy": ["policy"], "reference": [], "reward": ["reward"]}
        if start is not None:
            self._add(
                "sft",
                PeftConfig.from_pretrained(str(start)),
                backbone_names(load_peft_weights(str(start)), self.prefix),
            )
            self._start_from("sft")
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
        self.value_head = torch.nn.Linear(self.output_weight.shape[1], 1, device=lm.device)
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)
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

    def _start_from(self, adapter: str) -> None:
        """Make base + `adapter` the reference and the policy's start (see the table above)."""
        if self.output_weight.dtype != torch.float32:
            self.adapters["policy"], self.adapters["reference"] = [adapter, "policy"], [adapter]
            return
        with torch.no_grad():
            for _, layer in self._layers():
                layer.get_base_layer().weight.add_(layer.get_delta_weight(adapter))
                layer.scaling[adapter] = -layer.scaling[adapter]
        self.adapters["reward"] = ["reward", adapter]

    def activate(self, role: Role) -> None:
        """Switch on the adapters of `role`; the policy's parameters stay trainable throughout."""
        if role == self._active:
            return
        for _, layer in self._layers():
            layer.set_adapter(self.adapters[role], inference_mode=True)
        for parameter in self._parameters("policy").values():
            parameter.requires_grad_(True)
        self._active = role

    def policy_parameters(self) -> dict[str, torch.nn.Parameter]:
        return self._parameters("policy")

    def policy_state(self) -> dict[str, Tensor]:
        """A copy of the trainable state on the CPU: the policy adapter and the value head."""
        state = {name: parameter.detach().cpu().clone() for name, parameter in self.policy_parameters().items()}
        return state | {
            f"value_head.{name}": value.cpu().clone() for name, value in self.value_head.state_dict().items()
        }

    def load_policy(self, state: State) -> None:
        """Put back what `policy_state` returned."""
        head = {
            name.removeprefix("value_head."): value for name, value in state.items() if name.startswith("value_head.")
        }
        self.value_head.load_state_dict(head)
        self._load("policy", {name: value for name, value in state.items() if not name.startswith("value_head.")})

    # --- passes --------------------------------------------------------------------------------------------------------

    def hidden(self, rows: Rows, tokens: Tensor, positions: Tensor) -> Tensor:
        """Last hidden states [N, hidden] of the active role, for `tokens` and `positions` [N] laid out as `rows` says."""
        output = self.trunk(input_ids=tokens[None], position_ids=positions[None], use_cache=False, rows=rows)
        states: Tensor = output.last_hidden_state[0]
        return states

    def packed_hidden(self, packed: Packed) -> Tensor:
        return self.hidden(packed, packed.tokens, packed.positions)

    def values(self, hidden: Tensor) -> Tensor:
        """Values [...] of hidden states [..., hidden], in float32."""
        values: Tensor = self.value_head(hidden.float()).squeeze(-1)
        return values

    # --- architecture --------------------------------------------------------------------------------------------------

    def _use_rows(self) -> None:
        """Switch the model to the row layout and check on a few tokens that its hidden states and logits stay the same."""
        tokens = torch.arange(1, 13, device=self.lm.device) % self.output_weight.shape[0]
        with torch.no_grad():
            plain = self.trunk(input_ids=tokens[None], use_cache=False).last_hidden_state[0]
            logits = self.lm.model(input_ids=tokens[None], use_cache=False).logits[0, -1]
            self.lm.model.set_attn_implementation(ATTENTION)
            try:
                packed = Packed.pack([tokens[:9].tolist(), tokens.tolist()], self.lm.device)
                ours = self.packed_hidden(packed)[packed.index[1]]
            except (TypeError, ValueError) as error:
                raise self._unsupported(str(error)) from error
        own_logits = torch.nn.functional.linear(
            ours[-1].to(self.output_weight.dtype), self.output_weight, self.output_bias
        )
        for name, mine, theirs in (("hidden states", ours, plain), ("logits", own_logits, logits)):
            error_size = float((mine - theirs).abs().max() / theirs.abs().max())
            if not error_size <= TOLERANCE:
                raise self._unsupported(f"its {name} differ by {error_size:.2g} of their size")

    def _unsupported(self, why: str) -> UserError:
        kind = type(self.lm.model).__name__
        return UserError(
            f"model {self.lm.name}: PPO does not support the architecture {kind}: {why}; use another base model"
        )


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
