"""Answers drawn from a causal language model: a batched decode loop over the model's own key-value cache.

Why not `model.generate`: an answer must not depend on how often a run was cut or on which worker drew it, and the same
work must be cheap.

- *Chunks.* Prompts are sorted by length and content and cut into chunks of `batch_size`, whose members thus follow from
  content alone. A finished chunk can be kept; what it holds does not depend on the other chunks.
- *A random stream a row*, seeded by the hash of the prompt, of how often it was asked before, and of the recipe's seed.
  A prompt added elsewhere, or another batch size, leaves a row's draws alone (its answer can change only where rounding
  in another batch tips a draw that falls on the boundary between two tokens), and arms that answer the same prompts
  share their draws, which takes noise out of their comparison.
- *One prefix.* What all prompts of a chunk begin with (the system message and its exemplars, when revising) is computed
  once, at batch size 1, and its keys and values are repeated; likewise a prompt of which several samples are drawn.
- *A shrinking batch.* Finished answers leave the batch.
- The log-probability of an answer, at temperature 1, comes with it: no second pass.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
from tqdm.auto import tqdm
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rlaif_dagster.behaviour import SAMPLING
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel, Message
from rlaif_dagster.language.sharded import ShardedModel, Weights
from rlaif_dagster.shards import spread
from rlaif_dagster.spec.recipes import Sampling
from rlaif_dagster.work import Chunks

NUCLEUS = 256  # tokens among which a nucleus is sought before the whole vocabulary is sorted


@dataclass(frozen=True)
class Sampled:
    """One answer. `token_ids` and `tokens` include the end token where the answer ended (`finish_reason` stop); `text`
    does not. `logprob` is the sum over those tokens in nats, untempered.
    """

    text: str
    token_ids: list[int]
    tokens: int
    finish_reason: Literal["stop", "length"]
    logprob: float


@dataclass(frozen=True)
class Row:
    """One answer to be drawn: its prompt, whose it is, and `repeat`, the number of rows with that prompt before it."""

    ids: tuple[int, ...]
    repeat: int
    chat: int
    sample: int


def sample(
    lm: LanguageModel,
    chats: Sequence[list[Message]],
    sampling: Sampling,
    *,
    chunks: Chunks | None = None,
    progress: str | None = None,
) -> list[list[Sampled]]:
    """`sampling.samples` answers to every chat, in the order of `chats`.

    `chunks` keeps finished chunks across a kill; its folder must belong to one set of weights (a chunk's key covers its
    prompts, the settings and the base revision, and cannot see a merged adapter). `progress` names a bar on stderr.

    Raises UserError when a prompt and its answer cannot fit the model's context.
    """
    prompts = [tuple(lm.prompt_ids(chat)) for chat in chats]
    _check_context(lm, prompts, sampling)
    answers: list[dict[int, Sampled]] = [{} for _ in chats]
    plan = plan_chunks(prompts, sampling)
    with tqdm(total=sum(map(len, plan)), desc=progress, unit="answer", disable=None if progress else True) as bar:
        for number, drawn in _drawn(lm, plan, sampling, chunks):
            for row, found in zip(plan[number], drawn, strict=True):
                answers[row.chat][row.sample] = Sampled(**found)
            bar.update(len(drawn))
    return [[by_number[number] for number in range(sampling.samples)] for by_number in answers]


def plan_chunks(prompts: Sequence[tuple[int, ...]], sampling: Sampling) -> list[list[Row]]:
    """All rows (prompts times samples) in order of length and content, cut into chunks of `batch_size`."""
    asked: Counter[tuple[int, ...]] = Counter()
    rows = []
    for chat, ids in enumerate(prompts):
        for number in range(sampling.samples):
            rows.append(Row(ids, asked[ids], chat, number))
            asked[ids] += 1
    rows.sort(key=lambda row: (len(row.ids), row.ids, row.repeat))
    return [rows[start : start + sampling.batch_size] for start in range(0, len(rows), sampling.batch_size)]


def _drawn(
    lm: LanguageModel, plan: Sequence[list[Row]], sampling: Sampling, chunks: Chunks | None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Each chunk's place in the plan and its answers as JSON: kept, drawn now, or drawn by the shards."""
    missing = []
    for number, rows in enumerate(plan):
        kept = chunks.get(_key(lm, rows, sampling)) if chunks else None
        if kept is not None:
            yield number, kept
        elif isinstance(lm, ShardedModel):
            missing.append(number)
        else:
            yield number, _chunk(lm, sampling, chunks, rows)
    if isinstance(lm, ShardedModel):
        for place, drawn in spread(partial(_in_shard, lm.weights, sampling, chunks), [plan[n] for n in missing]):
            yield missing[place], drawn


def _in_shard(weights: Weights, sampling: Sampling, chunks: Chunks | None, rows: list[Row]) -> list[dict[str, Any]]:
    return _chunk(weights.load(), sampling, chunks, rows)


def _chunk(lm: LanguageModel, sampling: Sampling, chunks: Chunks | None, rows: list[Row]) -> list[dict[str, Any]]:
    """The chunk's answers as JSON, kept or drawn now."""

    def compute() -> list[dict[str, Any]]:
        ends = end_ids(lm)
        draws = torch.stack([_draws(row, sampling) for row in rows])
        decoded = decode(lm.model, [row.ids for row in rows], sampling, draws=draws, ends=ends)
        return [asdict(_sampled(lm, ids, logprob, ends)) for ids, logprob in decoded]

    return chunks.get_or_compute(_key(lm, rows, sampling), compute) if chunks else compute()


def _key(lm: LanguageModel, rows: list[Row], sampling: Sampling) -> str:
    """The name under which a chunk is kept."""
    settings = [sampling.seed, sampling.max_new_tokens, sampling.temperature, sampling.top_p]
    content = [[row.ids, row.repeat] for row in rows]
    weights = lm.spec.dtype if lm.spec.quantization == "none" else f"{lm.spec.dtype} {lm.spec.quantization}"
    return content_hash("sample", SAMPLING.version, lm.spec.revision, weights, settings, content)


def _draws(row: Row, sampling: Sampling) -> torch.Tensor:
    """The row's uniform random numbers [max_new_tokens], one a token, made on the CPU whatever the device."""
    seed = int(content_hash(sampling.seed, row.ids, row.repeat), 16) % 2**63
    return torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _sampled(lm: LanguageModel, ids: list[int], logprob: float, ends: frozenset[int]) -> Sampled:
    ended = ids[-1] in ends
    text = lm.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
    return Sampled(str(text), ids, len(ids), "stop" if ended else "length", logprob)


def end_ids(lm: LanguageModel) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's end token and those that the model's generation config adds."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    more = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return frozenset({lm.end_id, *more})


def _check_context(lm: LanguageModel, prompts: Sequence[tuple[int, ...]], sampling: Sampling) -> None:
    limit = getattr(lm.model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if limit and longest + sampling.max_new_tokens > limit:
        raise UserError(
            f"model {lm.name}: a prompt of {longest} tokens and max_new_tokens {sampling.max_new_tokens} exceed its "
            f"context of {limit}; shorten the prompt (or the exemplars in it), or lower max_new_tokens in the recipe"
        )


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    draws: torch.Tensor,
    ends: frozenset[int],
) -> list[tuple[list[int], float]]:
    """One batch: for each of B prompts (token ids, none empty) the answer's token ids and their summed log-probability.

    `draws` [B, max_new_tokens] are uniform in [0, 1); greedy decoding ignores them. An answer ends with the first token
    in `ends`, which it keeps, or after `max_new_tokens`.
    """
    batch = _Batch(model, prompts)
    draws = draws.to(model.device)
    stop = torch.tensor(sorted(ends), device=model.device)
    tokens: list[list[int]] = [[] for _ in prompts]
    logprobs = [0.0] * len(prompts)
    for step in range(sampling.max_new_tokens):
        log_probabilities = batch.logits.float().log_softmax(1)
        chosen = choose(log_probabilities, sampling.temperature, sampling.top_p, draws[batch.rows, step])
        gained = log_probabilities.gather(1, chosen[:, None])[:, 0]
        columns = (batch.rows, batch.live, chosen, gained)
        for row, live, token, gain in zip(*(column.tolist() for column in columns), strict=True):
            if live:
                tokens[row].append(token)
                logprobs[row] += gain
        batch.live &= ~torch.isin(chosen, stop)
        if step + 1 == sampling.max_new_tokens or not batch.live.any():
            break
        batch.advance(chosen)
    return list(zip(tokens, logprobs, strict=True))


def choose(log_probabilities: torch.Tensor, temperature: float, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Next tokens [B] from float32 `log_probabilities` [B, V], by inverting the distribution function at `draws` [B].

    Temperature 0 takes the likeliest token. With `top_p` below 1 only the smallest set of likeliest tokens whose
    probability, after the temperature, reaches `top_p` can be drawn (the nucleus, arXiv 1904.09751).
    """
    if temperature == 0:
        return log_probabilities.argmax(1)
    probabilities = log_probabilities.exp() if temperature == 1 else (log_probabilities / temperature).softmax(1)
    return _invert(probabilities, draws) if top_p == 1 else _choose_in_nucleus(probabilities, top_p, draws)


def _invert(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """First index whose cumulated probability exceeds the draw; never one of probability zero.

    On CPU twenty times as fast as torch.multinomial, which makes a random number for every token of the vocabulary.
    """
    cumulated = probabilities.double().cumsum(1)
    return torch.searchsorted(cumulated, (draws * cumulated[:, -1])[:, None], right=True)[:, 0]


def _choose_in_nucleus(probabilities: torch.Tensor, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Among a row's `NUCLEUS` likeliest tokens where they hold its nucleus, as they nearly always do; only the other rows
    are sorted in full, which would take longer for all of them than the model's forward pass.
    """
    ordered, index = probabilities.topk(min(NUCLEUS, probabilities.shape[1]), dim=1)
    chosen = _draw_in_order(ordered, index, top_p, draws)
    wide = (ordered.sum(1) < top_p).nonzero()[:, 0]
    if len(wide):
        ordered, index = probabilities[wide].sort(dim=1, descending=True)
        chosen[wide] = _draw_in_order(ordered, index, top_p, draws[wide])
    return chosen


def _draw_in_order(ordered: torch.Tensor, index: torch.Tensor, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Tokens [B] from probabilities in descending order [B, K], whose tokens are `index` [B, K], cut to the nucleus."""
    before = ordered.double().cumsum(1) - ordered
    return index.gather(1, _invert(ordered.masked_fill(before >= top_p, 0.0), draws)[:, None])[:, 0]


class _Batch:
    """The rows of a chunk that are still decoded: their cache, mask, positions and last logits [B, V].

    `rows` [B] are their numbers in the chunk. `live` [B] says which have not met an end token: a finished row stays
    until a quarter of the batch has finished, and the cache is then compacted once for all of them.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.keywords: dict[str, Any] = {"use_cache": True}
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            self.keywords["logits_to_keep"] = 1
        device = model.device
        self.rows = torch.arange(len(prompts), device=device)
        self.live = torch.ones(len(prompts), dtype=torch.bool, device=device)
        self.cache = DynamicCache(config=model.config)
        distinct = list(dict.fromkeys(tuple(ids) for ids in prompts))
        prefix = _common_prefix(distinct) if _keeps_all(self.cache) else 0
        if prefix:
            self._forward(torch.tensor([distinct[0][:prefix]], device=device))
            self._keep(torch.zeros(len(distinct), dtype=torch.long, device=device))
        # Padding goes to the left of what is not shared; positions count real tokens only and the mask hides the rest.
        width = max(map(len, distinct)) - prefix
        padded = [(0,) * (prefix + width - len(ids)) + ids[prefix:] for ids in distinct]
        real = [[1] * prefix + [0] * (prefix + width - len(ids)) + [1] * (len(ids) - prefix) for ids in distinct]
        mask = torch.tensor(real, device=device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix:]
        logits = self._forward(torch.tensor(padded, device=device), mask, positions)
        place = {ids: number for number, ids in enumerate(distinct)}
        index = torch.tensor([place[tuple(ids)] for ids in prompts], device=device)
        self._keep(index)
        self.mask, self.logits = mask[index], logits[index]
        self.position = self.mask.sum(1)  # [B], of the next token

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None = None, positions: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits [B, V] after the last token of `ids` [B, T]; the cache grows by T."""
        output = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache, **self.keywords
        )
        return output.logits[:, -1]

    def _keep(self, index: torch.Tensor) -> None:
        """Make row n of the cache what row index[n] was; fewer rows or more (every kind of layer can be reordered so)."""
        self.cache.reorder_cache(index)

    def advance(self, chosen: torch.Tensor) -> None:
        """Feed the chosen tokens [B]; finished rows are dropped first when they are many."""
        if int(self.live.sum()) * 4 <= len(self.live) * 3:
            keep = self.live.nonzero()[:, 0]
            self._keep(keep)
            self.rows, self.live, self.mask = self.rows[keep], self.live[keep], self.mask[keep]
            self.position, chosen = self.position[keep], chosen[keep]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(chosen), 1)], dim=1)
        self.logits = self._forward(chosen[:, None], self.mask, self.position[:, None])
        self.position = self.position + 1


def _common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Length of what all prompts begin with; at least one token of every prompt is left out of it."""
    longest = min(map(len, prompts)) - 1
    low, high = min(prompts), max(prompts)  # whatever two prompts differ, these two differ at least as early
    return next((place for place in range(longest) if low[place] != high[place]), longest)


def _keeps_all(cache: DynamicCache) -> bool:
    """True when every layer keeps all its keys and values. A sliding window counts slots of the cache, so padding
    between prefix and rest would push real tokens out of it; a recurrent state cannot skip padding at all.
    """
    return bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)
