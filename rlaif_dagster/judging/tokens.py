"""How many tokens a text has, before it is sent: by the provider's own tokenizer where it is at hand, else by what this
judge's answers have measured, else by a rule of thumb.

OpenAI's tokenizers lie in litellm's package and are read from there without importing it and without network. Other
providers publish none; their first answers tell how many characters they put into a token.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rlaif_dagster.home import Home
from rlaif_dagster.judging.ledger import measured
from rlaif_dagster.judging.prices import entry_of
from rlaif_dagster.judging.provider import endpoint_of
from rlaif_dagster.judging.template import Message
from rlaif_dagster.spec.judge import ApiJudge

TOKENS_PER_CHARACTER = 0.25  # of English; other languages have more
MESSAGE_TOKENS = 4  # around a message, in chat formats
SAMPLE = 200  # questions that are counted exactly; more tell nothing new about the mean


def tokens_of(spec: ApiJudge, questions: Sequence[list[Message]], home: Home) -> float:
    """Tokens that these questions have together: of a sample, scaled up by characters."""
    if not questions:
        return 0.0
    sample = questions[:: max(1, len(questions) // SAMPLE)]
    count = counter(spec, home)
    counted = sum(count(message["content"]) + MESSAGE_TOKENS for one in sample for message in one)
    return counted * _characters(questions) / _characters(sample)


def counter(spec: ApiJudge, home: Home) -> Callable[[str], float]:
    """A function from a text to its tokens."""
    encoding = None if spec.api_base else openai_encoding(spec.model)
    if encoding is not None:
        return lambda text: len(encoding.encode(text, disallowed_special=()))
    known = measured(home, endpoint_of(spec))
    rate = known.tokens_per_character if known else TOKENS_PER_CHARACTER
    return lambda text: len(text) * rate


@cache
def openai_encoding(model: str) -> Any:
    """OpenAI's tokenizer of one of its models; None for other models and where it is not at hand."""
    if entry_of(model).get("litellm_provider") not in {"openai", "azure", "text-completion-openai"}:
        return None
    litellm = importlib.util.find_spec("litellm")
    if litellm is None or litellm.origin is None:
        return None
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"))
    try:
        import tiktoken

        return tiktoken.encoding_for_model(model.rpartition("/")[2])
    except (ImportError, KeyError, OSError):
        return None


def _characters(questions: Sequence[list[Message]]) -> int:
    return sum(len(message["content"]) for one in questions for message in one)
