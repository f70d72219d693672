"""What judging will take, before anything is spent: requests, tokens, US dollars and seconds.

Where the pairs are known, the very questions are put together and those that the cache has answers to are left out. Where
they are not (answers that are yet to be sampled), counts make an upper bound. Replies and seconds are those that this
judge's answers took so far, and rules of thumb before the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rlaif_dagster.home import Home
from rlaif_dagster.judging.api import ApiJudge as Asked
from rlaif_dagster.judging.ledger import measured
from rlaif_dagster.judging.measuring import unmeasured
from rlaif_dagster.judging.prices import price_of
from rlaif_dagster.judging.provider import endpoint_of
from rlaif_dagster.judging.template import Message, Template
from rlaif_dagster.judging.tokens import TOKENS_PER_CHARACTER, tokens_of
from rlaif_dagster.judging.verdicts import Mode, Order, Pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge, JudgeSpec, LikelihoodJudge, PanelJudge
from rlaif_dagster.spec.model import ModelSpec

REPLY_TOKENS = {"none": 12, "brief": 60, "long": 230}  # a JSON object with a reason of 0, 25 or 150 words
VERDICT_TOKENS = 8  # for each principle beyond the first in a joint reply
PRINCIPLE_TOKENS = 40
REPLY_SECONDS = 2.0
BATCH_SECONDS = 24 * 3600.0  # within which providers answer a batch


@dataclass(frozen=True)
class JudgingEstimate:
    """`requests` to a provider, `tokens` read and written, `usd`: None where no price is known; `seconds`: None for a
    judge that asks nobody (what its machine takes is known from past runs alone)."""

    requests: int
    tokens: int
    usd: float | None
    seconds: float | None = None


NOTHING = JudgingEstimate(0, 0, 0.0, 0.0)


def estimate_pairs(
    pairs: Sequence[Pair],
    constitution: Constitution,
    orders: Sequence[Order],
    mode: Mode,
    name: str,
    judges: Mapping[str, JudgeSpec],
    models: Mapping[str, ModelSpec],
    home: Home,
) -> JudgingEstimate:
    """What judging these very pairs takes beyond what the cache knows. `judges` holds the judge called `name` and, where
    it is a panel, its members; `models` the base models that likelihood judges among them read with."""

    def of(judge: str, spec: ApiJudge | LikelihoodJudge) -> JudgingEstimate:
        if isinstance(spec, LikelihoodJudge):
            unread = unmeasured(pairs, constitution, mode, spec, models[spec.model], home)
            characters = sum(len(prompt) + len(answer) for _, prompt, answer in unread)
            return JudgingEstimate(0, round(characters * TOKENS_PER_CHARACTER), 0.0)
        questions = Asked(judge, spec, home).unanswered(pairs, constitution, orders, mode)
        written = len(questions) * reply_tokens(spec, home, len(constitution.principles) if mode == "joint" else 1)
        return _priced(spec, home, len(questions), tokens_of(spec, questions, home), written)

    return _by_members(name, judges, of)


def estimate(
    pairs_count: int,
    principles: int,
    orders: int,
    name: str,
    judges: Mapping[str, JudgeSpec],
    avg_tokens: float,
    home: Home,
    mode: Mode = "per_principle",
) -> JudgingEstimate:
    """The expectation for `pairs_count` pairs that nobody knows yet, `avg_tokens` being a prompt's tokens with one
    answer's.

    `orders` is 1 or 2. A likelihood judge makes no requests; it reads each answer once by itself and once a
    principle (counted as if no answer were in two pairs).
    """

    def of(judge: str, spec: ApiJudge | LikelihoodJudge) -> JudgingEstimate:
        together = principles if mode == "joint" else 1
        asked = principles if mode == "per_principle" else 1
        if isinstance(spec, LikelihoodJudge):
            return JudgingEstimate(0, round(2 * pairs_count * (1 + asked) * avg_tokens), 0.0)
        requests = pairs_count * asked * orders
        frame = Template(spec.reasoning, joint=mode == "joint").messages({"": ""}, "", "", "")
        read = sum(len(message["content"]) for message in frame) * TOKENS_PER_CHARACTER
        read += PRINCIPLE_TOKENS * together + 2 * avg_tokens
        return _priced(spec, home, requests, requests * read, requests * reply_tokens(spec, home, together))

    return _by_members(name, judges, of)


def estimate_grades(
    answers: int,
    principles: int,
    name: str,
    judges: Mapping[str, JudgeSpec],
    avg_tokens: float,
    home: Home,
    questions: Callable[[str, ApiJudge], Sequence[list[Message]]] | None = None,
) -> JudgingEstimate:
    """The expectation for grading answers one by one: a request each, all principles in it. Where the answers are known,
    `questions` gives what a judge of that name is still to be asked about them."""

    def of(judge: str, spec: ApiJudge | LikelihoodJudge) -> JudgingEstimate:
        if isinstance(spec, LikelihoodJudge):
            return JudgingEstimate(0, round(answers * (1 + principles) * avg_tokens), 0.0)
        if questions is not None:
            asked = questions(judge, spec)
            written = len(asked) * reply_tokens(spec, home, 1)
            return _priced(spec, home, len(asked), tokens_of(spec, asked, home), written)
        frame = len(Template().instructions) * TOKENS_PER_CHARACTER
        read = frame + PRINCIPLE_TOKENS * principles + avg_tokens
        return _priced(spec, home, answers, answers * read, answers * reply_tokens(spec, home, 1))

    return _by_members(name, judges, of)


def reply_tokens(spec: ApiJudge, home: Home, verdicts: int) -> float:
    """Tokens of a reply: the mean so far, else what the wording leads to."""
    known = measured(home, endpoint_of(spec))
    expected = known.tokens_out if known else REPLY_TOKENS[spec.reasoning] + VERDICT_TOKENS * (verdicts - 1)
    return min(expected, spec.max_tokens)


def _priced(spec: ApiJudge, home: Home, requests: int, read: float, written: float) -> JudgingEstimate:
    if not requests:
        return NOTHING
    price, known = price_of(spec), measured(home, endpoint_of(spec))
    seconds = requests * (known.seconds if known else REPLY_SECONDS) / min(spec.concurrency, requests)
    if spec.requests_per_minute:
        seconds = max(seconds, 60 * requests / spec.requests_per_minute)
    if spec.tokens_per_minute:
        seconds = max(seconds, 60 * (read + written) / spec.tokens_per_minute)
    if spec.batch:
        seconds = BATCH_SECONDS
    usd = None if price is None else price.of(read, written)
    return JudgingEstimate(requests, round(read + written), usd, seconds)


def _by_members(
    name: str,
    judges: Mapping[str, JudgeSpec],
    of: Callable[[str, ApiJudge | LikelihoodJudge], JudgingEstimate],
) -> JudgingEstimate:
    """The estimate of a single judge, or the sum over a panel's members, which are asked one after the other."""
    spec = judges[name]
    if not isinstance(spec, PanelJudge):
        return of(name, spec)
    parts = [of(member, one) for member in spec.judges if not isinstance(one := judges[member], PanelJudge)]
    prices, seconds = [part.usd for part in parts], [part.seconds for part in parts if part.seconds is not None]
    return JudgingEstimate(
        sum(part.requests for part in parts),
        sum(part.tokens for part in parts),
        None if None in prices else sum(price for price in prices if price is not None),
        sum(seconds) if seconds else None,
    )
