"""lm-eval's view of a language model that is already in memory.

lm-eval's own `hf` model runs the same few-shot prefix again for every answer of every item. This one hands all requests
of an evaluation to `language.scoring` at once, which computes each shared token once. Everything that decides a
*number* follows `lm_eval.models.huggingface.HFLM`: how context and continuation are split into tokens, the token before
an empty context, truncation from the left. A test holds the two against each other. (`hf_prefix_sharing` is the same for
users of lm-eval's command line, as a subclass of HFLM.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm.auto import tqdm

from rlaif_dagster.behaviour import SCORING
from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.hf_prefix_sharing import fitting
from rlaif_dagster.evaluation.request_store import RequestStore, request_key
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.sampling import decode, end_ids
from rlaif_dagster.language.scoring import Pair, Request, Scored, parts, score_tokens
from rlaif_dagster.language.sharded import ShardedModel, Weights
from rlaif_dagster.shards import spread
from rlaif_dagster.spec.recipes import Sampling

GENERATING_VERSION = 2  # of what is written for the same request; part of a stored request's key
COMMIT_SECONDS = 2.0  # between writes of finished requests
MAX_NEW_TOKENS = 256  # lm-eval's default where a task names no length
STRETCH = 64  # tokens decoded before answers are looked at for a stop string


@dataclass(frozen=True)
class Generation:
    """What one batch of `generate_until` requests has in common."""

    sampling: Sampling
    stops: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What is asked, for the name of a stored request."""
        return content_hash("generate", GENERATING_VERSION, self.sampling.meaning(), self.stops)


class PrefixSharingLM(TemplateLM):
    """A `LanguageModel` for lm-eval. `store` (of this model's own) keeps every finished request; `progress` names a
    bar."""

    def __init__(
        self,
        lm: LanguageModel,
        *,
        batch_size: int = 16,
        seed: int = 0,
        store: RequestStore | None = None,
        progress: str | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = lm.tokenizer
        self._device = lm.device
        self.batch_size = batch_size
        self.seed = seed
        self.store = store
        self.progress = progress

    @property
    def eot_token_id(self) -> int:
        return int(self.lm.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        bos = self.lm.tokenizer.bos_token_id
        return int(bos) if bos is not None else self.eot_token_id

    @property
    def max_length(self) -> int:
        """Tokens the model can read."""
        return int(resolve_max_length(self.lm.model.config, self.lm.tokenizer))

    @property
    def tokenizer_name(self) -> str:
        return str(self.lm.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, with the tokenizer's special tokens unless the text already begins with the first of them."""
        if add_special_tokens is None:
            begun = has_bos_prefix(string, self.lm.tokenizer.decode(self.prefix_token_id))
            return list(self.lm.tokenizer.encode(string, **({"add_special_tokens": False} if begun else {})))
        return list(self.lm.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The chat as the arms meet it in training and sampling: with the model file's system message where it has
        one."""
        system = self.lm.spec.system_prompt
        if system and chat_history[0]["role"] != "system":
            chat_history = [{"role": "system", "content": system}, *chat_history]
        return str(
            self.lm.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As TemplateLM's; lm-eval's own bar over the tokenization stays away unless asked for."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        asked = [self._fitting(context, continuation) for _, context, continuation in requests]
        keys = [scoring_key(*request) for request in asked]
        found: dict[str, list[Any]] = self.store.get(keys) if self.store else {}
        missing = {key: request for key, request in zip(keys, asked, strict=True) if key not in found}
        if isinstance(self.lm, ShardedModel):
            pieces = parts([*missing.values()])
            with self._bar(sum(map(len, pieces))) as bar:
                for place, scored in spread(partial(_score_in_shard, self.lm.weights, self.store), pieces):
                    found |= scored
                    bar.update(len(pieces[place]))
        else:
            found |= self._scored([*missing.values()])
        nothing = (0.0, True)  # an empty continuation is certain, and never told
        return [(float(value), bool(greedy)) for value, greedy in (found.get(key, nothing) for key in keys)]

    def _scored(self, requests: Sequence[Pair]) -> dict[str, list[Any]]:
        """What comes of requests that are scored here, by their keys; kept as they are finished."""
        found: dict[str, list[Any]] = {}
        fresh: dict[str, list[Any]] = {}
        written = time.monotonic()

        def finished(context: Sequence[int], continuation: Sequence[int], scored: Scored) -> None:
            nonlocal fresh, written
            fresh[scoring_key(context, continuation)] = [scored.logprob, scored.greedy]
            if time.monotonic() - written > COMMIT_SECONDS:
                self._keep(fresh)
                found.update(fresh)
                fresh, written = {}, time.monotonic()

        score_tokens(self.lm.model, requests, progress=self.progress, finished=finished)
        self._keep(fresh)
        return found | fresh

    def _fitting(self, context: list[int], continuation: list[int]) -> Request:
        """The context cut from the left so that all but the last token fit the model."""
        if len(continuation) > self.max_length:
            raise UserError(
                f"model {self.lm.name}: a continuation of {len(continuation)} tokens exceeds its context of "
                f"{self.max_length}; take the task out of the recipe or use a model with a longer context"
            )
        return fitting(context, continuation, self.max_length)

    def _bar(self, total: int) -> tqdm:
        return tqdm(total=total, desc=self.progress, unit="answer", disable=None if self.progress else True)

    def _keep(self, results: dict[str, Any]) -> None:
        if self.store and results:
            self.store.put(results)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-likelihood of whole texts in windows of the model's length, each token predicted once (lm-eval's
        windows)."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            for window in get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            ):
                context, continuation = make_disjoint_window(window)
                windows.append((None, context, continuation))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Texts up to the first stop string (or the end token, or the length). Requests with the same settings share
        batches, the longest contexts first."""
        groups: dict[str, tuple[Generation, list[int]]] = {}
        for number, request in enumerate(requests):
            name = json.dumps(request.args[1], sort_keys=True)
            if name not in groups:
                groups[name] = self._generation(request.args[1]), []
            groups[name][1].append(number)
        texts = [""] * len(requests)
        for generation, numbers in groups.values():
            room = self.max_length - generation.sampling.max_new_tokens
            contexts = {number: self.tok_encode(requests[number].args[0])[-room:] for number in numbers}
            for number, text in zip(numbers, self._texts(generation, list(contexts.values())), strict=True):
                texts[number] = text
        return texts

    def _texts(self, generation: Generation, contexts: list[list[int]]) -> list[str]:
        """The continuation of each context, found in the store or written now."""
        keys = [request_key(generation.kind, context) for context in contexts]
        found: dict[str, str] = self.store.get(keys) if self.store else {}
        missing = {key: context for key, context in zip(keys, contexts, strict=True) if key not in found}
        order = sorted(missing, key=lambda key: (-len(missing[key]), missing[key]))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        contents = [[missing[key] for key in batch] for batch in batches]
        with self._bar(len(order)) as bar:
            for number, texts in self._in_batches(generation, contents):
                found |= zip(batches[number], texts, strict=True)
                bar.update(len(texts))
        return [found[key] for key in keys]

    def _in_batches(
        self, generation: Generation, batches: Sequence[list[list[int]]]
    ) -> Iterator[tuple[int, list[str]]]:
        """Each batch's place and its texts, written here or by the shards."""
        if isinstance(self.lm, ShardedModel):
            yield from spread(partial(_write_in_shard, self.lm.weights, self.store, generation), batches)
        else:
            yield from ((number, self.write(generation, batch)) for number, batch in enumerate(batches))

    def write(self, generation: Generation, contexts: list[list[int]]) -> list[str]:
        """The continuations of one batch, kept."""
        texts = self._generate(generation, contexts)
        self._keep({request_key(generation.kind, ids): text for ids, text in zip(contexts, texts, strict=True)})
        return texts

    def _generation(self, settings: dict[str, Any]) -> Generation:
        """lm-eval's generation settings, or UserError where a task asks for what is not offered."""
        asked: dict[str, Any] = dict(normalize_gen_kwargs(settings, MAX_NEW_TOKENS))
        end = self.lm.tokenizer.decode([self.eot_token_id])
        stops = handle_stop_sequences(asked.pop("until"), eos=end)
        length, sampled = asked.pop("max_gen_toks"), asked.pop("do_sample")
        temperature, top_p = asked.pop("temperature", 1.0 if sampled else 0.0), asked.pop("top_p", 1.0)
        if asked:
            raise UserError(
                f"generation settings {', '.join(asked)} are not offered; "
                f"allowed: until, max_gen_toks, do_sample, temperature, top_p"
            )
        if length >= self.max_length:
            raise UserError(
                f"model {self.lm.name}: max_gen_toks {length} leaves no room in its context of {self.max_length}"
            )
        sampling = Sampling(
            max_new_tokens=length, temperature=temperature if sampled else 0.0, top_p=top_p, seed=self.seed
        )
        return Generation(sampling, tuple(stop for stop in stops if stop))

    def _generate(self, generation: Generation, contexts: list[list[int]]) -> list[str]:
        """Decode in stretches; a text that holds a stop string or has ended leaves the batch after its stretch."""
        ends = end_ids(self.lm)
        length = generation.sampling.max_new_tokens
        draws = torch.stack([_draws(context, generation.sampling) for context in contexts])
        written: list[list[int]] = [[] for _ in contexts]
        texts, running = [""] * len(contexts), list(range(len(contexts)))
        for done in range(0, length, STRETCH):
            sampling = generation.sampling.model_copy(update={"max_new_tokens": min(STRETCH, length - done)})
            prompts = [contexts[row] + written[row] for row in running]
            stretch = draws[running, done : done + STRETCH]
            decoded = decode(self.lm.model, prompts, sampling, draws=stretch, ends=ends)
            for row, (ids, _) in zip(running, decoded, strict=True):
                written[row] += ids
                texts[row] = str(self.lm.tokenizer.decode(written[row], skip_special_tokens=True))
            running = [
                row for row in running
                if written[row][-1] not in ends and not any(stop in texts[row] for stop in generation.stops)
            ]  # fmt: skip
            if not running:
                break
        return [postprocess_generated_text(text, list(generation.stops), None) for text in texts]


def scoring_key(context: Sequence[int], continuation: Sequence[int]) -> str:
    """The name under which a log-likelihood is kept."""
    return request_key(f"score {SCORING.version}", context, continuation)


def _score_in_shard(weights: Weights, store: RequestStore | None, requests: list[Pair]) -> dict[str, list[Any]]:
    """One part of a suite's requests, as a whole: its numbers then do not depend on how far a shard came that died."""
    keys = [scoring_key(*request) for request in requests]
    found: dict[str, list[Any]] = store.get(keys) if store else {}
    if len(found) == len(keys):
        return found
    scored = score_tokens(weights.load().model, requests)
    fresh = {key: [one.logprob, one.greedy] for key, one in zip(keys, scored, strict=True)}
    if store:
        store.put(fresh)
    return fresh


def _write_in_shard(
    weights: Weights, store: RequestStore | None, generation: Generation, contexts: list[list[int]]
) -> list[str]:
    keys = [request_key(generation.kind, context) for context in contexts]
    found: dict[str, str] = store.get(keys) if store else {}
    if len(found) == len(set(keys)):
        return [found[key] for key in keys]
    return PrefixSharingLM(weights.load(), store=store).write(generation, contexts)


def _draws(context: list[int], sampling: Sampling) -> torch.Tensor:
    """Uniform random numbers [max_new_tokens] that follow from seed and context, whatever else is in the batch."""
    seed = int(request_key(f"draws {sampling.seed}", context), 16) % 2**63
    return torch.rand(sampling.max_new_tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
