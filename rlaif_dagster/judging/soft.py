"""Soft labels: how sure the judge was, from the log-probabilities of its verdict's token (arXiv 2309.00267).

    p(A) = (P(A) + P(tie) / 2) / (P(A) + P(B) + P(tie))

over the alternatives that the provider gave for the token with which the verdict begins.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

ALTERNATIVES = 5  # asked for a token; the three verdicts, with room for their spellings


def soft_label(text: str, logprobs: str | None, name: str = "verdict") -> float | None:
    """p(A) of the verdict under this name in the judge's answer; None where the answer carries no log-probabilities, or no
    verdict in that form, or one that does not begin a token.

    `logprobs` as the cache keeps them: JSON of [token, log-probability, [[alternative, log-probability], ...]].
    """
    if not logprobs:
        return None
    places = [match.end() for match in re.finditer(rf'"{re.escape(name)}"\s*:\s*"', text)]
    tokens: list[Any] = json.loads(logprobs)
    if len(places) != 1 or not (token := _at(tokens, places[0])):
        return None
    mass = {"A": 0.0, "B": 0.0, "tie": 0.0}
    for alternative, logprob in ({token[0]: token[1]} | dict(token[2])).items():
        if kind := _kind(alternative):
            mass[kind] += math.exp(logprob)
    total = sum(mass.values())
    return (mass["A"] + mass["tie"] / 2) / total if total > 0 and _kind(token[0]) else None


def _kind(token: str) -> str | None:
    """The verdict that a token begins, whatever quotation mark or space it brings along."""
    word = token.strip(" \"'\n").lower()
    if word in {"a", "b"}:
        return word.upper()
    return "tie" if word and "tie".startswith(word) else None


def _at(tokens: list[Any], place: int) -> Any:
    """The token in which the text's character `place` stands."""
    end = 0
    for token in tokens:
        end += len(token[0])
        if end > place:
            return token
    return None
