"""Many questions at once: a semaphore of requests in flight, retries, a budget, and every answer kept as it arrives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from tqdm.auto import tqdm

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.budget import Budget
from rlaif_dagster.judging.cache import Answer, AnswerCache
from rlaif_dagster.judging.provider import Provider, Rejected
from rlaif_dagster.judging.retry import Unavailable, with_retries
from rlaif_dagster.judging.template import Message

FAILURES_IN_A_ROW = 20  # requests without an answer, all retries spent, after which a provider counts as down
MESSAGE_TOKENS = 16  # a generous allowance for what a provider wraps around a message
BYTES_PER_TOKEN = 3  # fewer than texts have, so that a price is not underestimated

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why no answer came, in a line."""

    reason: str


async def ask_all(
    provider: Provider,
    questions: Mapping[str, list[Message]],
    cache: AnswerCache,
    *,
    backoff: float,
    budget_usd: float | None,
    progress: str | None,
) -> dict[str, Answer | Failure]:
    """The answer, or the reason why there is none, to each question by its key.

    An answer is in the cache before it is counted. When the budget is spent or the provider turns the judge away,
    requests in flight still end and are kept; then UserError is raised. When FAILURES_IN_A_ROW requests in a row got no answer,
    the rest fail unasked.
    """
    if budget_usd is not None and provider.price is None:
        raise UserError(
            f"judge {provider.judge}: a budget cannot be held because no price is known for {provider.spec.model}; "
            "set usd_per_million_input and usd_per_million_output in its file (0 for a server of your own)"
        )
    if provider.price is None:
        log.warning("judge %s: no price is known for %s; its cost is counted as 0", provider.judge, provider.spec.model)
    bar = tqdm(total=len(questions), desc=progress, unit="request", disable=None if progress else True)
    with bar:
        run = _Run(provider, cache, backoff, Budget(budget_usd), asyncio.Semaphore(provider.spec.concurrency), bar)
        await asyncio.gather(*(run.ask(key, messages) for key, messages in questions.items()))
    if run.stopped:
        raise run.stopped
    if run.budget.exhausted:
        raise UserError(
            f"judge {provider.judge}: spent ${run.budget.spent:.4f} of the budget of ${budget_usd:g}; "
            f"{len(questions) - len(run.answers)} of {len(questions)} requests remain; what was answered is kept: "
            "raise budget_usd in data/recipes/judging.yaml (or --budget) and run again"
        )
    return run.answers


class _Run:
    """The state of one `ask_all`."""

    def __init__(
        self,
        provider: Provider,
        cache: AnswerCache,
        backoff: float,
        budget: Budget,
        semaphore: asyncio.Semaphore,
        bar: tqdm,
    ) -> None:
        self.provider, self.cache, self.backoff, self.bar = provider, cache, backoff, bar
        self.budget, self.semaphore = budget, semaphore
        self.answers: dict[str, Answer | Failure] = {}
        self.stopped: UserError | None = None
        self.failures = 0

    async def ask(self, key: str, messages: list[Message]) -> None:
        async with self.semaphore:
            most = most_expensive(self.provider, messages)
            if self.stopped or not await self.budget.reserve(most):
                return
            if self.failures >= FAILURES_IN_A_ROW:
                answer: Answer | Failure = Failure(f"not asked: {FAILURES_IN_A_ROW} requests in a row got no answer")
            else:
                answer = await self._one(key, messages)
            await self.budget.settle(most, answer.cost_usd if isinstance(answer, Answer) else 0.0)
        if not self.stopped:
            self.answers[key] = answer
        self.bar.update()
        self.bar.set_postfix_str(f"${self.budget.spent:.4f}" if self.budget.spent else "", refresh=False)

    async def _one(self, key: str, messages: list[Message]) -> Answer | Failure:
        try:
            answer = await with_retries(lambda: self.provider.ask(messages), self.provider.spec.retries, self.backoff)
        except (Unavailable, Rejected) as error:
            self.failures += 1
            return Failure(str(error))
        except UserError as error:
            self.stopped = error
            return Failure(str(error))
        self.failures = 0
        self.cache.put({key: answer})
        return answer


def most_expensive(provider: Provider, messages: list[Message]) -> float:
    """The most that a request can cost, US dollars."""
    if provider.price is None:
        return 0.0
    read = sum(MESSAGE_TOKENS + len(message["content"].encode()) / BYTES_PER_TOKEN for message in messages)
    return provider.price.of(read, provider.spec.max_tokens)
