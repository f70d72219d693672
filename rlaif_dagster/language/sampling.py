"""Answers drawn from a causal language model: a batched decode loop over the model's own key-value cache.

Why not `model.generate`: the result must not depend on how often a run was cut, and the same work must be cheap.
- *Chunks.* Prompts are sorted by length and cut into chunks of at most `batch_size` whose members follow from content
  alone. A chunk draws from its own random stream, seeded by the hash of its prompts and of the sampling settings, so
  it comes out the same whether its neighbours were sampled now, before a kill, or by another worker; a prompt that is
  added changes a few chunks near it in the order and leaves the rest alone.
- *One prefix.* What all prompts of a chunk begin with (the system message and its exemplars, when revising) is computed
  once, at batch size 1, and its keys and values are repeated.
- *A shrinking batch.* Finished answers leave the batch.
- The log-probability of an answer, at temperature 1, comes with it: no second pass.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from tqdm.auto import tqdm
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel, Message
from rlaif_dagster.spec.recipes import Sampling
from rlaif_dagster.work import Chunks

NUCLEUS = 256  # tokens among which a nucleus is sought before the whole vocabulary is sorted


@dataclass(frozen=True)
class Sampled:
    """One answer. `token_ids` and `tokens` include the end token where the answer ended (`finish_reason` stop); `text`
    does not. `logprob` is the sum over those tokens in nats, untempered."""

    text: str
    token_ids: list[int]
    tokens: int
    finish_reason: Literal["stop", "length"]
    logprob: float


@dataclass(frozen=True)
class Row:
    """A place in the plan: which chat, which of its samples, and what it asks."""

    chat: int
    sample: int
    ids: tuple[int, ...]
    repeat: int  # the how-manieth row with these ids: it tells equal prompts apart in what seeds a chunk


def sample(
    lm: LanguageModel,
    chats: Sequence[list[Message]],
    sampling: Sampling,
    *,
    chunks: Chunks | None = None,
    progress: str | None = None,
) -> list[list[Sampled]]:
    """`sampling.samples` answers to every chat, in the order of `chats`.

    `chunks` keeps finished chunks across a kill; its folder must belong to one set of weights (chunk keys cover prompts,
    settings and the base revision, and cannot see a merged adapter). `progress` names a bar on stderr.

    Raises UserError when a prompt and its answer cannot fit the model's context.
    """
    prompts = [tuple(lm.prompt_ids(chat)) for chat in chats]
    _check_lengths(lm, prompts, sampling)
    answers: list[list[Sampled]] = [[] for _ in chats]
    collected: dict[tuple[int, int], Sampled] = {}
    plan = plan_chunks(prompts, sampling)
    with tqdm(total=sum(map(len, plan)), desc=progress, unit="answer", disable=None if progress else True) as bar:
        for rows in plan:
            key = chunk_key(lm, rows, sampling)
            found = _kept(chunks, key, lm, rows, sampling)
            for row, answer in zip(rows, found, strict=True):
                collected[row.chat, row.sample] = Sampled(**answer)
            bar.update(len(rows))
    for chat, inner in enumerate(answers):
        inner.extend(collected[chat, number] for number in range(sampling.samples))
    return answers


def plan_chunks(prompts: Sequence[tuple[int, ...]], sampling: Sampling) -> list[list[Row]]:
    """All rows (prompts x samples), sorted by length and content, cut into chunks of at most `batch_size`.

    A cut falls after a row whose own hash says so once a chunk holds three quarters of `batch_size`, and at `batch_size`
    at the latest. So after an insertion the cuts soon fall where they fell before (content-defined chunking), at the
    price of chunks that are on average a seventh smaller than allowed.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    rows = []
    for chat, ids in enumerate(prompts):
        for number in range(sampling.samples):
            rows.append(Row(chat, number, ids, seen[ids]))
            seen[ids] += 1
    rows.sort(key=lambda row: (len(row.ids), row.ids, row.repeat))
    least, divisor = -(-3 * sampling.batch_size // 4), max(1, sampling.batch_size // 8)
    plan: list[list[Row]] = [[]]
    for row in rows:
        plan[-1].append(row)
        full = len(plan[-1]) >= sampling.batch_size
        if full or (len(plan[-1]) >= least and int(content_hash(row.ids, row.repeat), 16) % divisor == 0):
            plan.append([])
    return [chunk for chunk in plan if chunk]


def chunk_key(lm: LanguageModel, rows: Sequence[Row], sampling: Sampling) -> str:
    """Hash of everything that decides a chunk's answers: prompts, settings, base weights."""
    settings = [sampling.seed, sampling.max_new_tokens, sampling.temperature, sampling.top_p]
    return content_hash("sample", lm.spec.revision, lm.spec.dtype, settings, [[list(row.ids), row.repeat] for row in rows])


def _kept(
    chunks: Chunks | None, key: str, lm: LanguageModel, rows: Sequence[Row], sampling: Sampling
) -> list[dict[str, Any]]:
    def compute() -> list[dict[str, Any]]:
        settings = [sampling.seed, sampling.max_new_tokens, sampling.temperature, sampling.top_p]
        seed = content_hash(*settings, [[list(row.ids), row.repeat] for row in rows])
        generator = torch.Generator().manual_seed(int(seed, 16) % 2**63)
        ends = end_ids(lm)
        decoded = decode(lm.model, [row.ids for row in rows], sampling, ends=ends, generator=generator)
        return [asdict(_sampled(lm, ids, logprob, ends)) for ids, logprob in decoded]

    return chunks.get_or_compute(key, compute) if chunks else compute()


def _sampled(lm: LanguageModel, ids: list[int], logprob: float, ends: frozenset[int]) -> Sampled:
    ended = bool(ids) and ids[-1] in ends
    text = lm.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
    return Sampled(str(text), ids, len(ids), "stop" if ended else "length", logprob)


def end_ids(lm: LanguageModel) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's and those that the model's generation config adds."""
    configured = getattr(lm.model.generation_config, "eos_token_id", None)
    extra = configured if isinstance(configured, list) else [] if configured is None else [configured]
    return frozenset({lm.end_id, *extra})


def _check_lengths(lm: LanguageModel, prompts: Sequence[tuple[int, ...]], sampling: Sampling) -> None:
    limit = getattr(lm.model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if limit and longest + sampling.max_new_tokens > limit:
        raise UserError(
            f"model {lm.name}: a prompt of {longest} tokens and max_new_tokens {sampling.max_new_tokens} exceed its context "
            f"of {limit}; shorten the prompt (or the constitution's exemplars) or lower max_new_tokens in the recipe"
        )


# --- one chunk ---------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    ends: frozenset[int],
    generator: torch.Generator,
) -> list[tuple[list[int], float]]:
    """Answers to one batch of prompts (B lists of token ids, none empty): token ids and their summed log-probability.

    All random numbers, one a row and step, are drawn from the CPU `generator` up front, so a row's draws depend neither on
    which other rows have finished nor on the device.
    """
    state = _Batch(model, prompts)
    draws = torch.rand(sampling.max_new_tokens, len(prompts), generator=generator, dtype=torch.float64).to(model.device)
    stop = torch.tensor(sorted(ends), device=model.device)
    tokens: list[list[int]] = [[] for _ in prompts]
    logprobs: list[float] = [0.0] * len(prompts)
    for step in range(sampling.max_new_tokens):
        logits = state.logits.float()
        chosen = choose(logits, sampling.temperature, sampling.top_p, draws[step, state.rows])
        gained = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(1)
        going = ~torch.isin(chosen, stop)
        for row, token, gain, live in zip(
            state.rows.tolist(), chosen.tolist(), gained.tolist(), state.live.tolist(), strict=True
        ):
            if live:
                tokens[row].append(token)
                logprobs[row] += gain
        state.live &= going
        if step + 1 == sampling.max_new_tokens or not state.live.any():
            break
        state.advance(chosen)
    return list(zip(tokens, logprobs, strict=True))


def choose(logits: torch.Tensor, temperature: float, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Next tokens [B] from float32 `logits` [B, V] by inverting the distribution function at `draws` [B] in [0, 1).

    Temperature 0 takes the likeliest token. With `top_p` below 1 only the smallest set of likeliest tokens whose
    probability reaches `top_p` (the nucleus, arXiv 1904.09751) can be drawn.
    """
    if temperature == 0:
        return logits.argmax(1)
    probabilities = (logits / temperature if temperature != 1 else logits).softmax(1)
    if top_p < 1:
        return _choose_in_nucleus(probabilities, top_p, draws)
    return _invert(probabilities, draws)


def _invert(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """First index whose cumulated probability exceeds the draw; never one of probability zero."""
    cumulated = probabilities.cumsum(1, dtype=torch.float64)
    found = torch.searchsorted(cumulated, (draws * cumulated[:, -1])[:, None], right=True)[:, 0]
    return found.clamp_(max=probabilities.shape[1] - 1)


def _choose_in_nucleus(probabilities: torch.Tensor, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Among the `NUCLEUS` likeliest tokens where they hold the nucleus (nearly always), else among all, sorted."""
    size = min(NUCLEUS, probabilities.shape[1])
    likeliest, index = probabilities.topk(size, dim=1)
    if size < probabilities.shape[1] and bool((likeliest.sum(1) < top_p).any()):
        likeliest, index = probabilities.sort(dim=1, descending=True)
    before = likeliest.cumsum(1, dtype=torch.float64) - likeliest
    found = _invert(likeliest.masked_fill(before >= top_p, 0.0), draws)
    return index.gather(1, found[:, None])[:, 0]


class _Batch:
    """The rows of a chunk that are still being decoded: cache, mask and last logits [B, V].

    `rows` [B] are their numbers in the chunk, `live` [B] says which have not met an end token: a finished row stays, and
    costs, until a quarter of the batch has finished and the cache is compacted once for all of them.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        device = model.device
        self.rows = torch.arange(len(prompts), device=device)
        self.live = torch.ones(len(prompts), dtype=torch.bool, device=device)
        self.cache = DynamicCache(config=model.config)
        prefix = _common_prefix(prompts) if _plain(self.cache) else 0
        if prefix:
            self._forward(torch.tensor([list(prompts[0][:prefix])], device=device), None, None)
            self.cache.batch_repeat_interleave(len(prompts))
        rest = [list(ids[prefix:]) for ids in prompts]
        width = max(map(len, rest))
        # padding is on the left of what is not shared: positions count real tokens only, and the mask hides the rest
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rest], device=device)
        seen = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rest], device=device)
        self.mask = torch.cat([torch.ones(len(prompts), prefix, dtype=seen.dtype, device=device), seen], dim=1)
        self.position = self.mask.sum(1)  # [B], of the next token
        positions = (self.mask.cumsum(1) - 1).clamp_(min=0)[:, prefix:]
        self.logits = self._forward(ids, self.mask, positions)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None
    ) -> torch.Tensor:
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            **self.last_only,
        )
        return output.logits[:, -1]

    def advance(self, chosen: torch.Tensor) -> None:
        """Feed the chosen tokens [B]; finished rows are dropped first when they are many."""
        if (~self.live).sum() * 4 >= self.live.numel():
            keep = self.live.nonzero()[:, 0]
            self.cache.batch_select_indices(keep)
            self.rows, self.live, self.mask = self.rows[keep], self.live[keep], self.mask[keep]
            self.position, chosen = self.position[keep], chosen[keep]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(chosen), 1)], dim=1)
        self.logits = self._forward(chosen[:, None], self.mask, self.position[:, None])
        self.position = self.position + 1


def _common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Length of what all prompts begin with; at least one token of every prompt is left out of it."""
    low, high = min(prompts, key=tuple), max(prompts, key=tuple)  # the extremes in order differ first where any two do
    length = 0
    while length < min(len(low), len(high)) - 1 and low[length] == high[length]:
        length += 1
    return min(length, min(map(len, prompts)) - 1)


def _plain(cache: DynamicCache) -> bool:
    """True when every layer keeps all its keys and values. A sliding window counts cache slots, so the padding between
    prefix and rest would push real tokens out of it; recurrent states cannot be told apart from padding at all."""
    return bool(cache.layers) and all(type(layer) is DynamicLayer for layer in cache.layers)
