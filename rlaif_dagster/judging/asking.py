"""Many questions at once: paced by what the provider bears, tried again where that helps, within a budget, and every
answer kept as it arrives.

One loop starts requests while pace and budget let it. What failed and may pass goes back into the queue with a time before
which it is not asked again, so that waiting holds no place; while many wait, nothing new is begun.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from tqdm.auto import tqdm

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.batch import POLL_SECONDS, ask_in_batches
from rlaif_dagster.judging.budget import Budget
from rlaif_dagster.judging.cache import Answer, AnswerCache
from rlaif_dagster.judging.ledger import ANSWERED, Entry
from rlaif_dagster.judging.pace import Pace
from rlaif_dagster.judging.provider import Provider, Rejected
from rlaif_dagster.judging.retry import Unavailable, delay, tries
from rlaif_dagster.judging.template import Message

FAILURES_IN_A_ROW = 20  # requests without an answer, all retries spent, after which a provider counts as down
MESSAGE_TOKENS = 16  # a generous allowance for what a provider wraps around a message
BYTES_PER_TOKEN = 3  # fewer than texts have, so that a price is not underestimated
WAITING = 2  # times the concurrency: how many requests may wait to be asked again before nothing new is begun

log = logging.getLogger(__name__)
Label = Callable[[str, Answer], str]


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
    extra: Callable[[str], Mapping[str, Any]] | None = None,
    label: Label | None = None,
    poll: float = POLL_SECONDS,
) -> dict[str, Answer | Failure]:
    """The answer, or the reason why there is none, to each question by its key.

    An answer is in the cache before it is counted. `extra` gives what is sent beside a question's messages; `label` names
    an answer's verdict for the progress bar; `poll` is how often a batch is looked at, seconds. When the budget is spent
    or the provider turns the judge away (its key, its model, its credit), requests in flight still end and are kept; then
    UserError is raised. When FAILURES_IN_A_ROW requests in a row got no answer, the rest fail unasked; what a provider
    rejects counts until it has answered another.
    """
    if provider.spec.batch:
        _check_price(provider, budget_usd)
        found = await ask_in_batches(
            provider, questions, cache, budget_usd=budget_usd, most=lambda messages: most_expensive(provider, messages),
            progress=progress, extra=extra or (lambda key: {}), poll=poll,
        )  # fmt: skip
        return {key: Failure(answer) if isinstance(answer, str) else answer for key, answer in found.items()}
    asked = await ask_within(
        provider, questions, cache, backoff=backoff, budget_usd=budget_usd, progress=progress, extra=extra, label=label
    )
    if asked.exhausted and budget_usd is not None:
        raise exhausted(
            provider.judge, asked.spent, asked.unsure, budget_usd, len(questions) - len(asked.answers), len(questions)
        )
    return asked.answers


@dataclass(frozen=True)
class Asked:
    """What came of questions, and in US dollars what it took. Where the budget was `exhausted` some have no answer."""

    answers: dict[str, Answer | Failure]
    spent: float
    unsure: float
    exhausted: bool


async def ask_within(
    provider: Provider,
    questions: Mapping[str, list[Message]],
    cache: AnswerCache,
    *,
    backoff: float,
    budget_usd: float | None,
    progress: str | None = None,
    extra: Callable[[str], Mapping[str, Any]] | None = None,
    label: Label | None = None,
) -> Asked:
    """As `ask_all`, one request a question; a budget that is spent is told, not raised."""
    _check_price(provider, budget_usd)
    bar = tqdm(total=len(questions), desc=progress, unit="verdict", disable=None if progress else True)
    with bar, _loaded_stays():
        run = _Run(provider, cache, backoff, Budget(budget_usd), bar, extra or (lambda key: {}), label)
        await run.ask(questions)
    if run.stopped:
        raise run.stopped
    return Asked(run.answers, run.budget.spent, run.budget.unsure, run.exhausted)


@contextmanager
def _loaded_stays() -> Iterator[None]:
    """Python's collector of cycles passes over what is there already: with litellm loaded that is some 360,000 objects, and
    to look through them each time that requests have left some garbage takes a sixth of a request's processor time, in
    stops of a quarter of a second during which no answer is read."""
    before = gc.get_freeze_count()
    gc.collect()  # what is garbage already is not kept
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if before and "duckdb" not in sys.modules:  # the command line's own; DuckDB complains of what stays at the end
            gc.freeze()


def exhausted(judge: str, spent: float, unsure: float, budget_usd: float, left: int, asked: int) -> UserError:
    """What to say of a spent budget, all in US dollars."""
    more = f" (and up to ${unsure:.4f} for requests without an answer)" if unsure else ""
    return UserError(
        f"judge {judge}: spent ${spent:.4f}{more} of the budget of ${budget_usd:g}; {left} of {asked} requests remain; what "
        "was answered is kept: raise budget_usd in data/recipes/judging.yaml (or --budget) and run again"
    )


def _check_price(provider: Provider, budget_usd: float | None) -> None:
    """UserError for a budget that cannot be held; a warning where nothing is known of the cost."""
    if budget_usd is not None and provider.price is None:
        raise UserError(
            f"judge {provider.judge}: a budget cannot be held because no price is known for {provider.spec.model}; "
            "set usd_per_million_input and usd_per_million_output in its file (0 for a server of your own)"
        )
    if provider.price is None:
        log.warning("judge %s: no price is known for %s; its cost is counted as 0", provider.judge, provider.spec.model)


@dataclass(frozen=True)
class _Request:
    """A question to be asked: its key, how often it was asked already, the most it can cost, the tokens it may take."""

    key: str
    messages: list[Message]
    attempt: int
    most: float
    tokens: float


class _Run:
    """The state of one `ask_all`, touched by one thread."""

    def __init__(
        self,
        provider: Provider,
        cache: AnswerCache,
        backoff: float,
        budget: Budget,
        bar: tqdm,
        extra: Callable[[str], Mapping[str, Any]],
        label: Label | None,
    ) -> None:
        spec = provider.spec
        self.provider, self.cache, self.backoff, self.bar = provider, cache, backoff, bar
        self.budget, self.extra, self.label = budget, extra, label
        self.pace = Pace(spec.concurrency, spec.requests_per_minute, spec.tokens_per_minute)
        self.new: deque[tuple[str, list[Message]]] = deque()
        self.again: list[tuple[float, int, _Request]] = []  # a heap by the time from which it may be asked
        self.answers: dict[str, Answer | Failure] = {}
        self.counts: Counter[str] = Counter()
        self.turn = count()
        self.retried = self.failures = 0
        self.heard = False  # any answer yet
        self.exhausted = False
        self.stopped: UserError | None = None
        self.crashed: BaseException | None = None
        self.wake = asyncio.Event()

    async def ask(self, questions: Mapping[str, list[Message]]) -> None:
        """Ask everything; ends when nothing is in flight and nothing is left to be asked."""
        self.new.extend(questions.items())
        tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        try:
            while (pause := self._start(tasks)) is not None or tasks:
                self.wake.clear()
                alarm = loop.call_later(pause, self.wake.set) if pause is not None else None
                await self.wake.wait()
                if alarm:
                    alarm.cancel()
                if self.crashed:
                    raise self.crashed
        finally:
            for task in tasks:
                task.cancel()

    def _start(self, tasks: set[asyncio.Task[None]]) -> float | None:
        """Start what may start. Seconds until more may; None when that takes the end of a request, or nothing is left."""
        while not (self.stopped or self.exhausted):
            now = time.monotonic()
            if self.failures >= FAILURES_IN_A_ROW:
                self._give_up()
            if not (due := self._due(now)):
                return self.again[0][0] - now if self.again else None
            if (pause := self.pace.wait(now)) is None or pause > 0:
                return pause
            request = self._take(due)
            if not self.budget.fits(request.most):
                heapq.heappush(self.again, (now, next(self.turn), request))
                self.exhausted = not tasks  # requests in flight may yet come out cheaper
                return None
            self.budget.reserve(request.most)
            self.pace.start(now, request.tokens)
            task = asyncio.create_task(self._attempt(request))
            tasks.add(task)
            task.add_done_callback(lambda done: self._ended(done, tasks))
        return None

    def _due(self, now: float) -> str | None:
        """Which queue is next: what waited long enough, then what is new, unless too much waits already."""
        if self.again and self.again[0][0] <= now:
            return "again"
        return "new" if self.new and len(self.again) < WAITING * self.pace.most else None

    def _take(self, queue: str) -> _Request:
        if queue == "again":
            return heapq.heappop(self.again)[2]
        key, messages = self.new.popleft()
        tokens = _tokens_read(messages) + self.provider.spec.max_tokens
        return _Request(key, messages, 0, most_expensive(self.provider, messages), tokens)

    def _ended(self, task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.crashed = error
        self.wake.set()

    async def _attempt(self, request: _Request) -> None:
        started = time.monotonic()
        try:
            answer = await self.provider.ask(request.messages, self.extra(request.key))
        except Unavailable as error:
            self._unavailable(request, error, started)
        except Rejected as error:
            self._failed(request, "rejected", str(error))
        except UserError as error:
            self.stopped = self.stopped or error
            self._failed(request, "turned_away", str(error))
        else:
            self._keep(request, answer)

    def _keep(self, request: _Request, answer: Answer) -> None:
        entry = Entry(
            self.provider.endpoint, ANSWERED, 1, answer.cost_usd, answer.tokens_in, answer.tokens_out,
            _characters(request.messages), answer.latency_ms / 1000,
        )  # fmt: skip
        self.cache.put({request.key: answer}, entry)
        self.budget.settle(request.most, answer.cost_usd)
        tokens = answer.tokens_in + answer.tokens_out or request.tokens
        self.pace.answered(request.tokens, tokens, answer.latency_ms / 1000)
        self.failures, self.heard = 0, True
        self._done(
            request.key, answer, self.label(request.key, answer) if self.label and not self.bar.disable else None
        )

    def _unavailable(self, request: _Request, error: Unavailable, started: float) -> None:
        now = time.monotonic()
        if request.attempt + 1 >= tries(error, self.provider.spec.retries):
            self._failed(request, error.kind, str(error), started=started, error=error)
            return
        self._book(request, error.kind, error.billed)
        self._slow_down(now, started, error)
        seconds = delay(request.attempt, error.seconds, self.backoff, random.random())
        later = _Request(request.key, request.messages, request.attempt + 1, request.most, request.tokens)
        heapq.heappush(self.again, (now + seconds, next(self.turn), later))
        self.retried += 1
        self._show()

    def _failed(
        self,
        request: _Request,
        outcome: str,
        reason: str,
        *,
        started: float = 0.0,
        error: Unavailable | None = None,
    ) -> None:
        self._book(request, outcome, error is not None and error.billed)
        self._slow_down(time.monotonic(), started, error)
        # whoever has answered others is there, however many it rejects; who rejects all from the first on is asked no more
        self.failures += outcome != "turned_away" and not (outcome == "rejected" and self.heard)
        self._done(request.key, Failure(reason), "error")

    def _slow_down(self, now: float, started: float, error: Unavailable | None) -> None:
        if error is not None and error.pushes_back:
            self.pace.pushed_back(now, started, error.seconds)
        else:
            self.pace.failed()

    def _book(self, request: _Request, outcome: str, billed: bool) -> None:
        unsure = request.most if billed else 0.0
        entry = Entry(self.provider.endpoint, outcome, characters=_characters(request.messages), unsure_usd=unsure)
        self.cache.put({}, entry)
        self.budget.settle(request.most, 0.0, unsure=billed)

    def _give_up(self) -> None:
        """The provider is down: what is left fails unasked."""
        rest = [request.key for *_, request in self.again] + [key for key, _ in self.new]
        self.again.clear()
        self.new.clear()
        for key in rest:
            self._done(key, Failure(f"not asked: {FAILURES_IN_A_ROW} requests in a row got no answer"), "error")

    def _done(self, key: str, answer: Answer | Failure, verdict: str | None) -> None:
        if not self.stopped:
            self.answers[key] = answer
        if verdict:
            self.counts[verdict] += 1
        self.bar.update()
        self._show()

    def _show(self) -> None:
        """Cost, verdicts, requests asked again and requests in flight, beside tqdm's own rate."""
        if self.bar.disable:
            return
        parts = [f"${self.budget.spent:.4f}"] if self.budget.spent else []
        parts += [f"{kind} {n}" for kind, n in sorted(self.counts.items())]
        parts += [f"asked again {self.retried}"] if self.retried else []
        self.bar.set_postfix_str(", ".join([*parts, f"in flight {self.pace.in_flight}"]), refresh=False)


def most_expensive(provider: Provider, messages: list[Message]) -> float:
    """The most that a request can cost, US dollars."""
    if provider.price is None:
        return 0.0
    return provider.price.most(_tokens_read(messages), provider.spec.max_tokens)


def _tokens_read(messages: list[Message]) -> float:
    """At least as many tokens as the messages have."""
    return sum(MESSAGE_TOKENS + len(message["content"].encode()) / BYTES_PER_TOKEN for message in messages)


def _characters(messages: list[Message]) -> int:
    return sum(len(message["content"]) for message in messages)
