"""Answers of the policy to a batch of prompts, with what PPO needs to know of the moment they were drawn.

One decode loop gives tokens, their log-probabilities at the sampling temperature, and the hidden states that predicted
them, hence the values: no second pass of the policy over its own answers. Rows that have finished leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlaif_dagster.language.sampling import choose, end_ids
from rlaif_dagster.training.ppo.backbone import Backbone
from rlaif_dagster.training.ppo.logprobs import scored
from rlaif_dagster.training.ppo.rows import Growing, Packed
from rlaif_dagster.training.ppo.share import Share


@dataclass(frozen=True)
class Rollout:
    """B prompts and their answers; tensors are [B, T] over answer tokens, right-padded, T the longest answer.

    `mask` is true on answer tokens, the end token included; `hidden` [B, T, hidden] are the states that predicted each token;
    `logprobs` are at the sampling temperature; `ended` [B] says which answers met an end token;
    `texts` are the answers without it.
    """

    prompts: list[str]
    prompt_ids: list[list[int]]
    answer_ids: list[list[int]]
    texts: list[str]
    tokens: Tensor
    mask: Tensor
    logprobs: Tensor
    hidden: Tensor
    ended: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens of each answer, [B]."""
        return self.mask.sum(1)

    def with_states(self, logprobs: Tensor, states: Tensor) -> Rollout:
        """The same answers with other log-probabilities [B, T] and states [n, hidden], as `score_tokens` computes them."""
        hidden = torch.zeros_like(self.hidden)
        hidden[self.mask] = states.to(hidden.dtype)
        return replace(self, logprobs=logprobs, hidden=hidden)

    def joined(self, share: Share) -> Rollout:
        """The answers of all processes' rollouts; `hidden` stays where it was computed."""
        if share.number == 1:
            return self
        tokens = share.rows(self.tokens)
        return Rollout(
            prompts=share.gathered(self.prompts),
            prompt_ids=share.gathered(self.prompt_ids),
            answer_ids=share.gathered(self.answer_ids),
            texts=share.gathered(self.texts),
            tokens=tokens,
            mask=share.rows(self.mask),
            logprobs=share.rows(self.logprobs),
            hidden=self.hidden.new_zeros(*tokens.shape, 0),
            ended=share.rows(self.ended),
        )

    def sequences(self, rows: Sequence[int]) -> list[list[int]]:
        """Prompts with their answers."""
        return [self.prompt_ids[row] + self.answer_ids[row] for row in rows]

    def answer_states(self, hidden: Tensor, packed: Packed, rows: Sequence[int]) -> Tensor:
        """Out of `hidden` [N, hidden] of the packed `sequences(rows)`: the states that predict answer tokens, [n, hidden], in the
        order of `tokens[rows][mask[rows]]`."""
        places = [
            packed.index[
                number, len(self.prompt_ids[row]) - 1 : len(self.prompt_ids[row]) + len(self.answer_ids[row]) - 1
            ]
            for number, row in enumerate(rows)
        ]
        return hidden[torch.cat(places)]


@torch.no_grad()
def roll_out(
    backbone: Backbone,
    prompts: Sequence[str],
    prompt_ids: Sequence[list[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    draws: Tensor | None,
) -> Rollout:
    """Let the active role answer. `draws` [B, max_new_tokens] in [0, 1) decide every token by inverting the tempered
    distribution function, so that an answer depends on its own draws and not on its neighbours'; None is greedy. B may be 0."""
    device = backbone.lm.device
    batch = len(prompt_ids)
    if not batch:
        return _no_answers(backbone)
    stop = torch.tensor(sorted(end_ids(backbone.lm)), device=device)
    draws = None if draws is None else draws.to(device)
    lengths = [len(ids) for ids in prompt_ids]
    packed = Packed.pack(prompt_ids, device)
    rows = Growing(packed, lengths, max_new_tokens)
    last = packed.index.gather(1, torch.as_tensor(lengths, device=device)[:, None] - 1)[:, 0]
    hidden = backbone.hidden(rows, packed.tokens, packed.positions)[last]
    rows.advance()

    tokens = torch.zeros(batch, max_new_tokens, dtype=torch.long, device=device)
    mask = torch.zeros(batch, max_new_tokens, dtype=torch.bool, device=device)
    logprobs = torch.zeros(batch, max_new_tokens, device=device)
    states = torch.zeros(batch, max_new_tokens, hidden.shape[-1], dtype=hidden.dtype, device=device)
    ended = torch.zeros(batch, dtype=torch.bool, device=device)
    live = torch.arange(batch, device=device)  # rows of the rollout that are still in the batch, finished or not
    for step in range(max_new_tokens):
        distribution = (_logits(backbone, hidden) / temperature).log_softmax(1)
        chosen = distribution.argmax(1) if draws is None else choose(distribution, 1.0, 1.0, draws[live, step])
        going = ~ended[live]
        mask[live, step] = going
        tokens[live, step] = torch.where(going, chosen, 0)
        logprobs[live, step] = distribution.gather(1, chosen[:, None])[:, 0]
        states[live, step] = hidden
        ended[live] |= torch.isin(chosen, stop)
        remaining = (~ended[live]).nonzero()[:, 0]
        if len(remaining) == 0 or step + 1 == max_new_tokens:
            break
        if len(remaining) <= 0.75 * len(live):  # copying the cache for every single row that ends would cost more
            live, chosen = live[remaining], chosen[remaining]
            rows.keep(remaining)
        hidden = backbone.hidden(rows, chosen, rows.lengths)
        rows.advance()
    longest = int(mask.sum(1).max())
    answer_ids = [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)]
    return Rollout(
        prompts=list(prompts),
        prompt_ids=list(prompt_ids),
        answer_ids=answer_ids,
        texts=[_text(backbone, ids, bool(end)) for ids, end in zip(answer_ids, ended, strict=True)],
        tokens=tokens[:, :longest],
        mask=mask[:, :longest],
        logprobs=logprobs.masked_fill(~mask, 0.0)[:, :longest],
        hidden=states[:, :longest],
        ended=ended,
    )


def _no_answers(backbone: Backbone) -> Rollout:
    weight = backbone.output_weight
    numbers = weight.new_zeros(0, 0, dtype=torch.float32)
    states = weight.new_zeros(0, 0, weight.shape[1])
    return Rollout([], [], [], [], numbers.long(), numbers.bool(), numbers, states, numbers.bool().flatten())


def _logits(backbone: Backbone, hidden: Tensor) -> Tensor:
    weight = backbone.output_weight
    return torch.nn.functional.linear(hidden.to(weight.dtype), weight, backbone.output_bias).float()


def _text(backbone: Backbone, ids: list[int], ended: bool) -> str:
    return str(backbone.lm.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True))


@torch.no_grad()
def score_tokens(
    backbone: Backbone, rollout: Rollout, *, temperature: float, micro_batch: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [B, T] of the rollout's tokens under the active role, and the states [n, hidden] that predict them (n
    answer tokens, row by row): whole sequences in passes of `micro_batch`, without gradients."""
    logprobs = torch.zeros_like(rollout.logprobs)
    states = answer_states(backbone, rollout, micro_batch=micro_batch)
    tokens = rollout.tokens[rollout.mask]
    found = scored(states, backbone.output_weight, backbone.output_bias, tokens, temperature)
    return logprobs.masked_scatter(rollout.mask, found), states


@torch.no_grad()
def answer_states(backbone: Backbone, rollout: Rollout, *, micro_batch: int) -> Tensor:
    """The states [n, hidden] of the active role that predict the rollout's n answer tokens, row by row, in passes of
    `micro_batch` sequences."""
    states = []
    for rows in torch.arange(len(rollout.prompts)).split(micro_batch) if rollout.prompts else ():
        packed = Packed.pack(rollout.sequences(rows.tolist()), backbone.lm.device)
        states.append(rollout.answer_states(backbone.packed_hidden(packed), packed, rows.tolist()))
    return torch.cat(states) if states else rollout.hidden[rollout.mask]
