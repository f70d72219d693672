"""lm-eval's view of a language model that is already in memory.

lm-eval's own `hf` model runs the same few-shot prefix again for every answer of every item. This one hands all requests
of an evaluation to `language.scoring` at once, which computes each shared token once. Everything that decides a
*number* follows `lm_eval.models.huggingface.HFLM`: how context and continuation are split into tokens, the token before
an empty context, truncation from the left. A test holds the two against each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.sampling import decode, end_ids
from rlaif_dagster.language.scoring import Request, score
from rlaif_dagster.spec.recipes import Sampling
from rlaif_dagster.work import Chunks

MAX_NEW_TOKENS = 256  # lm-eval's default where a task names no length
STRETCH = 64  # tokens decoded before answers are looked at for a stop string


@dataclass(frozen=True)
class Generation:
    """What one batch of `generate_until` requests has in common."""

    sampling: Sampling
    stops: tuple[str, ...]


class PrefixSharingLM(TemplateLM):
    """A `LanguageModel` for lm-eval. `chunks` (in a folder of this model's own) keeps finished parts; `progress` names
    a bar."""

    def __init__(
        self,
        lm: LanguageModel,
        *,
        batch_size: int = 16,
        seed: int = 0,
        chunks: Chunks | None = None,
        progress: str | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.tokenizer = lm.tokenizer
        self._device = lm.device
        self.batch_size = batch_size
        self.seed = seed
        self.chunks = chunks
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
        scored = score(
            self.lm,
            [self._fitting(context, continuation) for _, context, continuation in requests],
            chunks=self.chunks,
            progress=self.progress,
        )
        return [(one.logprob, one.greedy) for one in scored]

    def _fitting(self, context: list[int], continuation: list[int]) -> Request:
        """The context cut from the left so that all but the last token fit the model."""
        if len(continuation) > self.max_length:
            raise UserError(
                f"model {self.lm.name}: a continuation of {len(continuation)} tokens exceeds its context of "
                f"{self.max_length}; take the task out of the recipe or use a model with a longer context"
            )
        return context[-(self.max_length + 1 - len(continuation)) :], continuation

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
            order = sorted(numbers, key=lambda number: (-len(contexts[number]), contexts[number]))
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                for number, text in zip(batch, self._stored(generation, [contexts[n] for n in batch]), strict=True):
                    texts[number] = text
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

    def _stored(self, generation: Generation, contexts: list[list[int]]) -> list[str]:
        def compute() -> list[str]:
            return self._generate(generation, contexts)

        if self.chunks is None:
            return compute()
        key = content_hash("generate", generation.sampling.meaning(), generation.stops, contexts)
        return [str(text) for text in self.chunks.get_or_compute(key, compute)]

    def _generate(self, generation: Generation, contexts: list[list[int]]) -> list[str]:
        """Decode in stretches; a text that holds a stop string or has ended leaves the batch after its stretch."""
        ends = end_ids(self.lm)
        length = generation.sampling.max_new_tokens
        generator = torch.Generator().manual_seed(generation.sampling.seed)
        draws = torch.rand(len(contexts), length, generator=generator, dtype=torch.float64)
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
