"""lm-eval's `hf` model with shared prefixes computed once: `--model hf-prefix-sharing` on lm-eval's own command line.

    python -m rlaif_dagster.evaluation run --model hf-prefix-sharing --model_args pretrained=DIR,peft=ADAPTER --tasks mmlu

Everything is lm-eval's `HFLM` (loading, adapters, quantization, tokenization, chat templates, generation) but the one
method that computes log-likelihoods. There the requests' token sequences form a prefix tree, of which each node is
computed once (`language.scoring`): the few-shot examples of a task, the context of a question, then its answers.
`batch_size` bounds memory as it does for `hf`: a forward pass holds at most batch_size * 512 tokens.

Encoder-decoder models and adapters with virtual tokens (prefix tuning), which no tree of plain tokens describes, are left
to `HFLM`. Importing this module registers the model.
"""

from __future__ import annotations

from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from rlaif_dagster.language import onednn
from rlaif_dagster.language.scoring import score_tokens

NAME = "hf-prefix-sharing"
TOKENS_A_SEQUENCE = 512  # what a unit of lm-eval's batch size stands for
AUTO_BATCH_TOKENS = 8192  # where the batch size is `auto`


@register_model(NAME)
class PrefixSharingHFLM(HFLM):
    """`HFLM` whose log-likelihood requests share what they have in common. On some CPUs its float32 products are done by
    oneDNN (`language.onednn`), for the whole process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        onednn.use()
        super().__init__(*args, **kwargs)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        model = causal_model(self.model)
        if self.backend != "causal" or model is None:
            found: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
            return found
        batch = override_bs or self.batch_size
        asked = [fitting(context, continuation, self.max_length) for _, context, continuation in requests]
        mixed = self.mixed_precision_dtype
        with torch.autocast(self.device.type, dtype=mixed, enabled=mixed is not None):
            scored = score_tokens(
                model,
                asked,
                batch_tokens=batch * TOKENS_A_SEQUENCE if isinstance(batch, int) else AUTO_BATCH_TOKENS,
                progress=None if disable_tqdm else "Running loglikelihood requests",
            )
        answers = [(one.logprob, one.greedy) for one in scored]
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers


def causal_model(model: Any) -> Any | None:
    """The model whose own forward pass computes what `model` does: adapters that live in the layers (LoRA and its kind)
    stay active in it. None where there is no such model: virtual tokens stand before the text."""
    if not hasattr(model, "get_base_model"):
        return model
    configs = getattr(model, "peft_config", {}).values()
    return None if any(config.is_prompt_learning for config in configs) else model.get_base_model()


def fitting(context: list[int], continuation: list[int], max_length: int) -> tuple[list[int], list[int]]:
    """The request with its context cut from the left, as lm-eval cuts it, so that all but the last token fit."""
    return context[-(max_length + 1 - len(continuation)) :], continuation
