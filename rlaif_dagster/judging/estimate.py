"""What judging will take, before anything is spent: requests, tokens and US dollars, from counts alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlaif_dagster.judging.prices import price_of
from rlaif_dagster.judging.template import messages
from rlaif_dagster.spec.judge import ApiJudge, JudgeSpec, PanelJudge

REPLY_TOKENS = 60  # a JSON object with a reason of at most 25 words
PRINCIPLE_TOKENS = 40
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class JudgingEstimate:
    """`requests` to a provider, `tokens` read and written, `usd`: None where no price is known."""

    requests: int
    tokens: int
    usd: float | None


def estimate(
    pairs_count: int,
    principles: int,
    orders: int,
    judge_spec: JudgeSpec,
    avg_tokens: float,
    members: Mapping[str, JudgeSpec] | None = None,
) -> JudgingEstimate:
    """The expectation for `pairs_count` pairs that no cache knows, `avg_tokens` being a prompt's tokens with one answer's.

    `orders` is 1 or 2. A likelihood judge makes no requests; it reads each answer once by itself and once a
    principle (counted as if no answer were in two pairs). `members` are a panel's judges by name.
    """
    if isinstance(judge_spec, PanelJudge):
        known = members or {}
        parts = [estimate(pairs_count, principles, orders, known[name], avg_tokens) for name in judge_spec.judges]
        prices = [part.usd for part in parts]
        usd = None if None in prices else sum(price for price in prices if price is not None)
        return JudgingEstimate(sum(part.requests for part in parts), sum(part.tokens for part in parts), usd)
    if not isinstance(judge_spec, ApiJudge):
        return JudgingEstimate(0, round(2 * pairs_count * (1 + principles) * avg_tokens), 0.0)
    requests = pairs_count * principles * orders
    frame = sum(len(message["content"]) for message in messages("", "", "", "")) / CHARACTERS_PER_TOKEN
    read, written = frame + PRINCIPLE_TOKENS + 2 * avg_tokens, min(REPLY_TOKENS, judge_spec.max_tokens)
    price = price_of(judge_spec)
    usd = None if price is None else requests * price.of(read, written)
    return JudgingEstimate(requests, round(requests * (read + written)), usd)
