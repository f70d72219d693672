"""PPO's losses and what is watched beside them: elementwise, unreduced, so that a caller who accumulates gradients over
micro-batches can divide by the whole minibatch's tokens. `log_ratio` is log pi_new - log pi_old, of the tokens drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from rlaif_dagster.training.ppo.advantages import masked_variance


def policy_loss(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(r A, clip(r, 1 - eps, 1 + eps) A) for every token, the clipped objective (eq. 7 of arXiv 1707.06347), to be
    minimised."""
    ratio = log_ratio.exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error of every value, the larger of plain and clipped: a value may move at most `clip` away from
    what it was when the answers were drawn before further movement stops paying (as in arXiv 2403.17031)."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def clipped(log_ratio: Tensor, clip: float) -> Tensor:
    """1 where the probability ratio is outside [1 - clip, 1 + clip], else 0."""
    return ((log_ratio.exp() - 1).abs() > clip).to(log_ratio.dtype)


def approximate_kl(log_ratio: Tensor) -> Tensor:
    """Estimate of KL(old || new) a token, nats: r - 1 - log r, never negative."""
    return torch.expm1(log_ratio) - log_ratio


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over masked positions: 1 is perfect, 0 no better than a constant, negative
    worse. 0 where all returns are equal, since there is nothing to explain."""
    total = masked_variance(returns, mask)
    if float(total) == 0.0:
        return torch.zeros_like(total)
    return 1 - masked_variance(returns - values, mask) / total
