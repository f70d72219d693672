"""Several epochs of minibatch ascent on one rollout: the part of PPO that changes the weights.

A minibatch's loss is a mean over all its answer tokens. Its gradient is summed over micro-batches whose losses are divided
by the tokens of the whole minibatch, so memory can be traded for time, and the micro-batches divided among processes, without
changing the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rlaif_dagster.spec.recipes import Ppo
from rlaif_dagster.training import memory
from rlaif_dagster.training.ppo import losses
from rlaif_dagster.training.ppo.backbone import Backbone, acting_as
from rlaif_dagster.training.ppo.draws import shuffled
from rlaif_dagster.training.ppo.logprobs import token_logprobs
from rlaif_dagster.training.ppo.rollout import Rollout
from rlaif_dagster.training.ppo.rows import Packed
from rlaif_dagster.training.ppo.share import ALONE, Share


class NotFiniteError(Exception):
    """A loss or a gradient norm that is NaN or infinite; no optimizer step was taken with it."""


@dataclass(frozen=True)
class Experience:
    """A rollout with what it was worth; `values`, `advantages` and `returns` are [B, T], constant during the update."""

    rollout: Rollout
    values: Tensor
    advantages: Tensor
    returns: Tensor


def make_optimizer(backbone: Backbone, recipe: Ppo) -> torch.optim.Adam:
    """Adam with eps 1e-5 (arXiv 2403.17031) over the policy, the value function's adapter where it has one, and, at its
    own rate, the value head."""
    trained = [*backbone.policy_parameters().values(), *backbone.value_parameters().values()]
    return torch.optim.Adam(
        [
            {"params": trained, "lr": recipe.learning_rate},
            {"params": list(backbone.value_head.parameters()), "lr": recipe.value_learning_rate},
        ],
        eps=1e-5,
    )


def set_learning_rates(optimizer: torch.optim.Adam, recipe: Ppo, update: int) -> None:
    """Rates of `update` (from 0): a linear warm-up, then constant or falling linearly so that the last update's is the least."""
    factor = min(1.0, (update + 1) / (recipe.warmup_updates + 1))
    if recipe.lr_scheduler == "linear":
        factor = min(factor, (recipe.updates - update) / max(1, recipe.updates - recipe.warmup_updates))
    for group, rate in zip(optimizer.param_groups, (recipe.learning_rate, recipe.value_learning_rate), strict=True):
        group["lr"] = rate * factor


def minibatches(recipe: Ppo, seed: int, update: int, epoch: int) -> Iterator[list[int]]:
    """The rollout's rows in a fresh order, cut into `recipe.minibatches` equal parts."""
    order = shuffled(recipe.rollout_batch, seed, "minibatches", update, epoch)
    size = recipe.rollout_batch // recipe.minibatches
    return (order[start : start + size] for start in range(0, len(order), size))


def accumulate_gradient(
    backbone: Backbone, experience: Experience, rows: Sequence[int], recipe: Ppo, share: Share = ALONE
) -> dict[str, float]:
    """Add this process's part of the gradient of the minibatch `rows` to the parameters' `grad`; returns sums over the answer
    tokens of that part.

    Raises NotFiniteError on a loss that is no number.
    """
    rollout = experience.rollout
    # alike in length, since attention pads within a micro-batch; longest first, so that later ones fit into the same memory
    by_length = sorted(rows, key=lambda row: -len(rollout.prompt_ids[row]) - len(rollout.answer_ids[row]))
    tokens = int(rollout.lengths[list(rows)].sum())
    own = share.of(by_length)
    sums = dict.fromkeys(("tokens", "policy_loss", "value_loss", "entropy", "clip_fraction", "kl"), 0.0)
    with backbone.recomputing(recipe.gradient_checkpointing):
        for start in range(0, len(own), recipe.micro_batch):
            found = _accumulate(backbone, experience, own[start : start + recipe.micro_batch], recipe, tokens)
            sums = {name: sums[name] + found[name] for name in sums}
    return sums


def _accumulate(
    backbone: Backbone, experience: Experience, micro: Sequence[int], recipe: Ppo, tokens: int
) -> dict[str, float]:
    """The part of one micro-batch in a minibatch of `tokens` answer tokens."""
    rollout = experience.rollout
    mask = rollout.mask[micro]

    def taken(values: Tensor) -> Tensor:
        return values[micro][mask]

    packed = Packed.pack(rollout.sequences(micro), backbone.lm.device)
    hidden = rollout.answer_states(backbone.packed_hidden(packed), packed, micro)
    logprobs, entropy = token_logprobs(
        hidden, backbone.output_weight, backbone.output_bias, taken(rollout.tokens), recipe.temperature,
        entropy_gradient=recipe.entropy_coefficient > 0,
    )  # fmt: skip
    log_ratio = logprobs - taken(rollout.logprobs)
    policy = losses.policy_loss(log_ratio, taken(experience.advantages), recipe.clip).sum()
    loss = (policy - recipe.entropy_coefficient * entropy.sum()) / tokens

    def value_loss(hidden: Tensor) -> Tensor:
        old, returns = taken(experience.values), taken(experience.returns)
        return losses.value_loss(backbone.values(hidden), old, returns, recipe.value_clip).sum()

    if backbone.own_value:  # a graph of its own: the policy's is gone before it is built
        _backward(loss, tokens)
        with acting_as(backbone, "value"):
            value = value_loss(rollout.answer_states(backbone.packed_hidden(packed), packed, micro))
            _backward(recipe.value_coefficient * value / tokens, tokens)
    else:
        value = value_loss(hidden)
        _backward(loss + recipe.value_coefficient * value / tokens, tokens)
    log_ratio = log_ratio.detach()
    return {
        "tokens": float(len(log_ratio)),
        "policy_loss": float(policy.detach()),
        "value_loss": float(value.detach()),
        "entropy": float(entropy.detach().sum()),
        "clip_fraction": float(losses.clipped(log_ratio, recipe.clip).sum()),
        "kl": float(losses.approximate_kl(log_ratio).sum()),
    }


def _backward(loss: Tensor, tokens: int) -> None:
    if not bool(torch.isfinite(loss)):
        raise NotFiniteError(f"loss {float(loss.detach())} in a minibatch of {tokens} tokens")
    loss.backward()


def update_policy(
    backbone: Backbone,
    optimizer: torch.optim.Adam,
    experience: Experience,
    recipe: Ppo,
    *,
    seed: int,
    update: int,
    share: Share = ALONE,
) -> dict[str, float]:
    """All epochs over one rollout; returns means over all tokens seen.

    `kl` is that from the policy before the update to the policy during it, nats a token. Once a minibatch finds it above
    `max_update_kl` the rest of the update is left out: clipping stops the gradient of tokens that have moved too far, but
    not the optimizer's momentum. `steps` counts the optimizer's steps. Raises NotFiniteError before a step would be taken
    with a gradient that is no number.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    limit = math.inf if recipe.max_update_kl is None else recipe.max_update_kl
    totals: dict[str, float] = {}
    steps = 0
    memory.give_back()  # what the rollout left: pages that go and come back at every minibatch would cost more than they save
    for rows in (rows for epoch in range(recipe.epochs) for rows in minibatches(recipe, seed, update, epoch)):
        optimizer.zero_grad(set_to_none=True)
        sums = share.sums(partial(accumulate_gradient, backbone, experience, rows, recipe, share))
        share.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm)
        if not bool(torch.isfinite(norm)):
            raise NotFiniteError(f"gradient norm {float(norm)}")
        sums["gradient_norm"] = float(norm) * sums["tokens"]
        totals = {name: totals.get(name, 0.0) + value for name, value in sums.items()}
        if sums["kl"] / sums["tokens"] > limit:
            break
        optimizer.step()
        steps += 1
    optimizer.zero_grad(set_to_none=True)
    tokens = totals.pop("tokens")
    return {name: value / tokens for name, value in totals.items()} | {"steps": float(steps)}
