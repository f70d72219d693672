"""How good the policy is on prompts it does not train on: what the checkpoint is chosen by.

Published PPO runs peak early and then decay (AlpacaFarm, arXiv 2305.14387, best at 20 to 80 steps) while the training reward still
rises, so the last policy is rarely the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch

from rlaif_dagster.spec.recipes import Ppo
from rlaif_dagster.training.ppo.advantages import masked_mean
from rlaif_dagster.training.ppo.backbone import Backbone, acting_as
from rlaif_dagster.training.ppo.logprobs import divergence, token_logprobs
from rlaif_dagster.training.ppo.prompts import Prompts
from rlaif_dagster.training.ppo.rollout import Rollout, roll_out, score_tokens
from rlaif_dagster.training.ppo.share import Share
from rlaif_dagster.training.ppo.sources import RewardSource


@dataclass(frozen=True)
class Evaluation:
    """Greedy answers to the held-out prompts, in numbers.

    reward: mean raw score. kl: nats a response, the exact divergence of policy from reference summed along the answer. entropy:
    nats a token. distinct: share of different answers. repetition: share of an answer's 3-token runs that it holds already.
    eos_rate: share that ended. response_length: tokens.
    """

    reward: float
    kl: float
    entropy: float
    distinct: float
    repetition: float
    eos_rate: float
    response_length: float

    def metrics(self) -> dict[str, float]:
        return {f"held_out_{name}": value for name, value in asdict(self).items()}


def repetition(tokens: Sequence[int], run: int = 3) -> float:
    """Share of the runs of `run` tokens that occurred earlier in the same answer; 0 for an answer too short to have two."""
    runs = [tuple(tokens[start : start + run]) for start in range(len(tokens) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


@torch.no_grad()
def evaluate(backbone: Backbone, source: RewardSource, prompts: Prompts, recipe: Ppo, share: Share) -> Evaluation:
    """Answer all held-out prompts greedily, in batches as large as a rollout's, and measure; `source` sees whole batches."""
    sums = dict.fromkeys(("reward", "kl", "entropy", "repetition", "eos_rate", "response_length"), 0.0)
    texts: set[str] = set()
    for start in range(0, len(prompts.texts), recipe.rollout_batch):
        part = slice(start, start + recipe.rollout_batch)
        own = roll_out(
            backbone,
            share.of(prompts.texts[part]),
            share.of(prompts.ids[part]),
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            draws=None,
        )
        rollout = own.joined(share)
        scores = torch.as_tensor(source.score(rollout.prompts, rollout.texts, rollout.answer_ids), dtype=torch.float32)
        found = share.sums(partial(_sums, backbone, own, recipe)) | {"reward": float(scores.sum())}
        sums = {name: sums[name] + found[name] for name in sums}
        texts |= set(rollout.texts)
    count = len(prompts.texts)
    return Evaluation(distinct=len(texts) / count, **{name: value / count for name, value in sums.items()})


def _sums(backbone: Backbone, rollout: Rollout, recipe: Ppo) -> dict[str, float]:
    """Sums over a batch's answers, without their scores."""
    with acting_as(backbone, "reference"):
        _, reference = score_tokens(backbone, rollout, temperature=recipe.temperature, micro_batch=recipe.rollout_batch)
    policy, tokens = rollout.hidden[rollout.mask], rollout.tokens[rollout.mask]
    layer = backbone.output_weight, backbone.output_bias
    entropy = torch.zeros_like(rollout.logprobs)
    entropy[rollout.mask] = token_logprobs(policy, *layer, tokens, recipe.temperature)[1]
    return {
        "kl": float(divergence(policy, reference, *layer, recipe.temperature).sum()),
        "entropy": sum(float(masked_mean(row, mask)) for row, mask in zip(entropy, rollout.mask, strict=True)),
        "repetition": sum(map(repetition, rollout.answer_ids)),
        "eos_rate": float(rollout.ended.float().sum()),
        "response_length": float(rollout.lengths.float().sum()),
    }
