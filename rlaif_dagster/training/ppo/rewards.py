"""What each token of an answer is paid: a KL penalty everywhere, the score at the end.

All tensors are [B, T] over answer tokens, right-padded; `mask` is true on the answer's tokens, the end token included.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def kl_estimate(logprobs: Tensor, reference: Tensor, estimator: Literal["k1", "k3"]) -> Tensor:
    """Estimates of KL(policy || reference) a token, nats, from the log-probabilities [B, T] of the tokens drawn.

    With r = p_reference / p_policy, k1 = -log r is unbiased and noisy; k3 = r - 1 - log r is unbiased, never negative and
    of lower variance near the reference (J. Schulman, "Approximating KL divergence", 2020).
    """
    log_ratio = reference - logprobs
    return -log_ratio if estimator == "k1" else torch.expm1(log_ratio) - log_ratio


def shape_rewards(
    scores: Tensor,
    kl: Tensor,
    mask: Tensor,
    ended: Tensor,
    *,
    kl_coefficient: float,
    missing_eos_penalty: float,
) -> Tensor:
    """Rewards [B, T]: `-kl_coefficient * kl` on every answer token, and on the last token, there alone, the score.

    `scores` and `ended` are [B]. The last token is the end token where the answer ended; an answer that was cut off is
    paid on its last token as well, less the penalty, so that never ending cannot be a way to keep a score (EOS handling of
    arXiv 2403.17031). Padding is paid nothing. Raises ValueError for an answer without tokens: it has nowhere to be paid.
    """
    lengths = mask.sum(1)
    if bool((lengths == 0).any()):
        raise ValueError("an answer without tokens cannot be rewarded")
    rewards = -kl_coefficient * kl.masked_fill(~mask, 0.0)
    final = scores - missing_eos_penalty * (~ended).to(scores.dtype)
    return rewards.scatter_add(1, (lengths - 1)[:, None], final[:, None].to(rewards.dtype))
