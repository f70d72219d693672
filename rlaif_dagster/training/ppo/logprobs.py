"""Log-probabilities of chosen tokens from hidden states, without ever holding all logits.

Logits over a vocabulary of 49,152 or more are by far the widest tensors of a language model. Here they exist for a chunk of
positions at a time, in float32. The gradient needs none of them kept: the log-probability of token y at hidden state h is
a scalar with d/dh log p(y | h) = (w_y - sum_v p_v w_v) / temperature, one row as wide as h, computed in the same chunk
and scaled by the incoming gradient later. The output layer is frozen, so it needs no gradient itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_LOGITS = 1 << 22  # logits held at once: 16 MiB in float32


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tokens: Tensor,
    temperature: float,
    *,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [n] of `tokens` [n] and entropies [n] (nats) of the tempered distributions at `hidden` [n, hidden].

    `weight` [vocabulary, hidden] and `bias` are the output layer's. Gradients flow into `hidden` through the
    log-probabilities, and through the entropies where `entropy_gradient` asks for them: that is one more matrix product.
    Raises ValueError where the output layer is trainable.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError("the output layer must be frozen")
    logprobs, entropies = _TokenLogprobs.apply(hidden, weight, bias, tokens, temperature, entropy_gradient)
    return logprobs, entropies if entropy_gradient else entropies.detach()


@torch.no_grad()
def scored(hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor, temperature: float) -> Tensor:
    """The log-probabilities of `token_logprobs` alone, without gradients: half as many passes over the logits."""
    out = []
    for rows in torch.arange(len(tokens), device=tokens.device).split(_chunk(weight)):
        logits = _logits(hidden[rows], weight, bias, temperature)
        out.append(logits.gather(1, tokens[rows, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(out) if out else hidden.new_zeros(0, dtype=torch.float32)


@torch.no_grad()
def divergence(first: Tensor, second: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """KL(first || second) [n], nats, between the whole tempered distributions at two hidden states [n, hidden] each."""
    out = []
    for rows in torch.arange(len(first), device=first.device).split(_chunk(weight)):
        p, q = (_logits(state[rows], weight, bias, temperature).log_softmax(-1) for state in (first, second))
        out.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(out) if out else first.new_zeros(0)


def _chunk(weight: Tensor) -> int:
    return max(1, CHUNK_LOGITS // weight.shape[0])


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits.div_(temperature) if temperature != 1 else logits


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        temperature: float,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies, slopes, entropy_slopes = [], [], [], []
        for rows in torch.arange(len(tokens), device=tokens.device).split(_chunk(weight)):
            logits = _logits(hidden[rows], weight, bias, temperature)
            normalizer = logits.logsumexp(-1)
            logprobs.append(logits.gather(1, tokens[rows, None])[:, 0] - normalizer)
            probabilities = (logits - normalizer[:, None]).exp_()
            expected = torch.linalg.vecdot(probabilities, logits)
            entropies.append(normalizer - expected)
            if ctx.needs_input_grad[0]:
                mean = probabilities.to(weight.dtype) @ weight
                slopes.append((weight[tokens[rows]] - mean) / temperature)
                if entropy_gradient:  # dH/dz_v = -p_v (z_v - sum_u p_u z_u)
                    pull = probabilities.mul_(expected[:, None] - logits)
                    entropy_slopes.append((pull.to(weight.dtype) @ weight) / temperature)
        if slopes:
            ctx.save_for_backward(*(torch.cat(parts) for parts in (slopes, entropy_slopes) if parts))
        ctx.hidden_dtype = hidden.dtype
        return torch.cat(logprobs), torch.cat(entropies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # one pair a saved slope: without the entropy's, its incoming gradient is zero and left out
        pairs = zip(gradients, ctx.saved_tensors, strict=False)
        total = sum(gradient[:, None] * slopes for gradient, slopes in pairs)
        return total.to(ctx.hidden_dtype), None, None, None, None, None
