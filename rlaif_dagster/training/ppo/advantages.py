"""Advantages by generalized advantage estimation (arXiv 1506.02438), over right-padded answers."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both [B, T] and zero on padding, from [B, T] each.

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1} (eq. 16); the return is A_t + V_t. The episode
    ends with the answer's last token, whether that is the end token or the last one allowed: nothing is bootstrapped.
    """
    rewards, values = rewards.masked_fill(~mask, 0.0), values.masked_fill(~mask, 0.0)
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    for step in reversed(range(values.shape[1])):
        next_value = values[:, step + 1] if step + 1 < values.shape[1] else torch.zeros_like(following)
        delta = rewards[:, step] + gamma * next_value - values[:, step]
        # on padding rewards and values are zero, so what is carried stays zero until the answer's last token
        following = delta + gamma * lam * following
        advantages[:, step] = following
    return advantages, advantages + values


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions where `mask` is true; 0 where there is none."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Population variance over the positions where `mask` is true."""
    return masked_mean((values - masked_mean(values, mask)).square(), mask)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance over all masked positions of the batch; padding is zero.

    Over the whole rollout batch, not a minibatch or an answer: which answers were better than which is what is learnt.
    """
    scale = torch.rsqrt(masked_variance(values, mask) + 1e-8)
    return ((values - masked_mean(values, mask)) * scale).masked_fill(~mask, 0.0)
