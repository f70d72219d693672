"""Log-likelihoods of continuations given contexts, with every shared token computed once.

Benchmarks and likelihood judges ask for thousands of continuations whose contexts overlap: the same few-shot examples,
the same constitution, the same question before each of its answers. Here all token sequences form one prefix tree, and
each node of the tree is computed exactly once. The nodes are laid out in depth-first order and cut into rows of fixed
length; a row attends to its own ancestors in the row and to the keys and values of the path above it, through an
explicit mask (tree attention, as in SpecInfer, arXiv 2305.09781). Depth-first order makes this simple: whatever a later
row still needs of the earlier ones is the single path above its first node, and node `a` is an ancestor of node `n`
just when `a <= n < end(a)`, with `end(a)` the first node after a's subtree. Rows are full: no padding, and no copy of a
cache per answer. On a CPU attention leaves out the branches that a stretch of a row cannot see (`sparse_attention`).

Logits are computed where a continuation is predicted and nowhere else; their log-softmax is taken in float32. The
numbers equal a plain forward pass over `context + continuation` up to rounding. Models that this layout does not fit
(recurrent layers, attention windows shorter than a sequence, positions that depend on the length) are scored by plain
padded passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import DynamicCache, PreTrainedModel

from rlaif_dagster.behaviour import SCORING
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language import sparse_attention
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.work import Chunks

Request = tuple[list[int], list[int]]
Pair = tuple[Sequence[int], Sequence[int]]
Key = tuple[tuple[int, ...], int]  # a whole token sequence, and where its continuation starts
Result = tuple[int, float, bool]  # place among the keys, log-probability, greedy

CHUNK_TOKENS = 32768  # nodes of the tree that are computed, and stored, together
ROW_TOKENS = {"cpu": 512}  # a longer row fills no CPU better, and its attention sees more that it does not need
ROW_TOKENS_ACCELERATOR = 2048


@dataclass(frozen=True)
class Scored:
    """One continuation: the sum of its tokens' log-probabilities (nats), whether greedy decoding would have produced
    it, and how many tokens it has."""

    logprob: float
    greedy: bool
    tokens: int


Finished = Callable[[Sequence[int], Sequence[int], Scored], None]


def score(
    lm: LanguageModel,
    requests: Sequence[Pair],
    *,
    batch_tokens: int = 8192,
    chunks: Chunks | None = None,
    progress: str | None = None,
) -> list[Scored]:
    """Score each `(context ids, continuation ids)`, in the order asked; see `score_tokens`."""
    return score_tokens(lm.model, requests, batch_tokens=batch_tokens, chunks=chunks, progress=progress)


def score_tokens(
    model: PreTrainedModel,
    requests: Sequence[Pair],
    *,
    batch_tokens: int = 8192,
    chunks: Chunks | None = None,
    progress: str | None = None,
    finished: Finished | None = None,
) -> list[Scored]:
    """Score each `(context ids, continuation ids)`, in the order asked.

    `batch_tokens` bounds the tokens of one forward pass; it changes speed and memory, and numbers by rounding only.
    With `chunks` (in a folder that is the model's own) finished parts are kept and found again; `finished` is told of
    every different request as soon as it is scored, which is after each forward pass; with `progress` a bar of that
    name shows them. Raises ValueError for an empty context: a first token has no probability without one.
    """
    unique: dict[Key, int] = {}
    places = []
    for context, continuation in requests:
        if not context:
            raise ValueError("a context must hold at least one token, such as the beginning-of-text token")
        places.append(unique.setdefault(((*context, *continuation), len(context)), len(unique)))
    results: list[Scored] = [Scored(0.0, True, 0)] * len(unique)
    keyed = sorted((key, place) for key, place in unique.items() if len(key[0]) > key[1])
    with tqdm(total=len(keyed), desc=progress, unit="answer", disable=None if progress else True) as bar:

        def told(key: Key, scored: Scored) -> None:
            results[unique[key]] = scored
            if finished is not None:
                finished(key[0][: key[1]], key[0][key[1] :], scored)
            bar.update()

        for part in _parts([key for key, _ in keyed]):
            _score_part(model, [key for key, _ in keyed[part]], batch_tokens, chunks, told)
    return [results[place] for place in places]


def parts(requests: Sequence[Pair]) -> list[list[Pair]]:
    """The different requests, cut as `score_tokens` cuts them: a part scored alone has the numbers that it has among the
    others. Empty continuations, which are certain, are left out."""
    keys = sorted({((*context, *continuation), len(context)) for context, continuation in requests if continuation})
    return [[(sequence[:start], sequence[start:]) for sequence, start in keys[part]] for part in _parts(keys)]


def _parts(keys: list[Key]) -> Iterator[slice]:
    """Cut the sorted sequences into runs of about CHUNK_TOKENS tree nodes. A run stands by itself, so its numbers do
    not depend on which runs were found in a store."""
    start = nodes = 0
    for place, (sequence, _) in enumerate(keys):
        new = len(sequence) - (_shared(keys[place - 1][0], sequence) if place > start else 0)
        if nodes and nodes + new > CHUNK_TOKENS:
            yield slice(start, place)
            start, nodes, new = place, 0, len(sequence)
        nodes += new
    if keys:
        yield slice(start, len(keys))


def _shared(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Length of the common prefix."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    different = np.asarray(first[:length]) != np.asarray(second[:length])
    return int(different.argmax())


def _score_part(
    model: PreTrainedModel,
    keys: list[Key],
    batch_tokens: int,
    chunks: Chunks | None,
    told: Callable[[Key, Scored], None],
) -> None:
    """Score sorted keys and tell each; kept parts are told without any computation."""

    def compute() -> Iterator[Result]:
        limit = ROW_TOKENS.get(model.device.type, ROW_TOKENS_ACCELERATOR)
        method = _by_tree if _fits_tree(model, max(len(sequence) for sequence, _ in keys)) else _by_padding
        return method(model, keys, max(1, min(batch_tokens, limit)))

    def in_order() -> list[tuple[float, bool]]:
        found = {place: (value, greedy) for place, value, greedy in compute()}
        return [found[place] for place in range(len(keys))]

    stored: Iterator[Result] = (
        compute()
        if chunks is None
        else (
            (place, value, greedy)
            for place, (value, greedy) in enumerate(
                chunks.get_or_compute(content_hash("score", SCORING.version, keys), in_order)
            )
        )
    )
    for place, value, greedy in stored:
        ids, start = keys[place]
        told(keys[place], Scored(value, greedy, len(ids) - start))


def _fits_tree(model: PreTrainedModel, longest: int) -> bool:
    """Whether an explicit mask and explicit positions say all there is to a token's place: attention layers only, no
    window shorter than the longest sequence, rotary frequencies that do not change with the length, a mask that is not
    ignored."""
    config = model.config.get_text_config(decoder=True)
    accepted = inspect.signature(model.forward).parameters
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) or longest
    scaling = str((getattr(config, "rope_parameters", None) or {}).get("rope_type", "default"))
    return (
        {"position_ids", "logits_to_keep", "past_key_values"} <= set(accepted)
        and kinds <= {"full_attention", "sliding_attention"}
        and longest <= window
        and scaling not in {"dynamic", "longrope"}
        and config._attn_implementation in {"sdpa", "eager"}
    )


@dataclass(frozen=True)
class _Tree:
    """The prefix tree of the sequences without their last tokens (which are predicted, never read), depth first.

    Per node: token, depth (its position), end (the first node after its subtree). Per prediction, sorted by node: the
    node that predicts, the token predicted, the sequence it belongs to. All int64 arrays.
    """

    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    predict_at: np.ndarray
    predicted: np.ndarray
    owner: np.ndarray


def _tree(keys: list[Key]) -> _Tree:
    tokens: list[int] = []
    depths: list[int] = []
    ends: list[int] = []
    predictions: list[tuple[int, int, int]] = []
    path: list[int] = []
    previous: tuple[int, ...] = ()
    for place, (sequence, start) in enumerate(keys):
        read = sequence[:-1]
        shared = _shared(previous, read)
        for node in path[shared:]:
            ends[node] = len(tokens)
        del path[shared:]
        for depth in range(shared, len(read)):
            path.append(len(tokens))
            tokens.append(read[depth])
            depths.append(depth)
            ends.append(-1)
        predictions += [(path[position - 1], sequence[position], place) for position in range(start, len(sequence))]
        previous = read
    for node in path:
        ends[node] = len(tokens)
    at, predicted, owner = np.array(sorted(predictions), dtype=np.int64).T
    return _Tree(np.array(tokens), np.array(depths), np.array(ends), at, predicted, owner)


@torch.inference_mode()
def _by_tree(model: PreTrainedModel, keys: list[Key], row_tokens: int) -> Iterator[Result]:
    """The result of each sorted key as soon as it is known, row by row over their prefix tree."""
    tree, device = _tree(keys), model.device
    ends = torch.as_tensor(tree.ends, device=device)
    sums, greedy = np.zeros(len(keys)), np.ones(len(keys), dtype=bool)
    last = np.zeros(len(keys), dtype=np.int64)
    np.maximum.at(last, tree.owner, tree.predict_at)
    complete_at, told = np.maximum.accumulate(last), 0  # complete_at [keys]: the node after which no key up to it waits
    cache = DynamicCache()
    known = torch.empty(0, dtype=torch.long, device=device)  # the nodes whose keys and values the cache holds, in order
    for start in range(0, len(tree.tokens), row_tokens):
        nodes = torch.arange(start, min(start + row_tokens, len(tree.tokens)), device=device)
        if start:
            path = (ends[known] > start).nonzero()[:, 0]
            known = known[path]
            layers: Any = cache.layers
            for layer in layers:
                kept = path.to(layer.keys.device)  # layers may be spread over several
                layer.keys, layer.values = layer.keys.index_select(2, kept), layer.values.index_select(2, kept)
        known = torch.cat([known, nodes])
        visible = (known <= nodes[:, None]) & (ends[known] > nodes[:, None])
        here = slice(*np.searchsorted(tree.predict_at, [start, start + len(nodes)]))
        wanted, place = np.unique(tree.predict_at[here] - start, return_inverse=True)
        with sparse_attention.within(visible) if device.type == "cpu" else nullcontext():
            logits = model(
                input_ids=torch.as_tensor(tree.tokens[start : start + len(nodes)], device=device)[None],
                position_ids=torch.as_tensor(tree.depths[start : start + len(nodes)], device=device)[None],
                attention_mask=_additive(visible, model.dtype)[None, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=torch.as_tensor(wanted, device=device),
            ).logits[0]
        if len(wanted):
            values, best = _predictions(logits, place, tree.predicted[here])
            np.add.at(sums, tree.owner[here], values)
            np.logical_and.at(greedy, tree.owner[here], best)
        complete = int(np.searchsorted(complete_at, start + len(nodes)))
        yield from ((place, float(sums[place]), bool(greedy[place])) for place in range(told, complete))
        told = complete


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask as every attention implementation takes it: 0 where visible, the smallest number elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, torch.finfo(dtype).min)


def _predictions(logits: torch.Tensor, rows: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each (row of `logits` [n, vocabulary], token): its float32 log-probability, and whether it is the
    likeliest."""
    at, token = torch.as_tensor(rows, device=logits.device), torch.as_tensor(tokens, device=logits.device)
    log_normalizer = torch.logsumexp(logits.float(), dim=-1)
    values = logits[at, token].float() - log_normalizer[at]
    return values.double().cpu().numpy(), (logits.argmax(-1)[at] == token).cpu().numpy()


@torch.inference_mode()
def _by_padding(model: PreTrainedModel, keys: list[Key], batch_tokens: int) -> Iterator[Result]:
    """The result of each key by plain forward passes over right-padded batches of similar length."""
    left = sorted(range(len(keys)), key=lambda place: len(keys[place][0]), reverse=True)
    while left:
        width = len(keys[left[0]][0]) - 1
        batch, left = left[: max(1, batch_tokens // width)], left[max(1, batch_tokens // width) :]
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, place in enumerate(batch):
            read = keys[place][0][:-1]
            ids[row, : len(read)] = torch.tensor(read)
            mask[row, : len(read)] = 1
        output: Any = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
        for logits, place in zip(output.logits, batch, strict=True):
            sequence, start = keys[place]
            values, best = _predictions(logits, np.arange(start - 1, len(sequence) - 1), np.array(sequence[start:]))
            yield place, float(values.sum()), bool(best.all())
