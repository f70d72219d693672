"""Questions to a provider, asked by this process or, where there are shards, by all of them at once.

Each shard has the judge's `concurrency` to itself; limits a minute, which are the account's, are divided among them, and so is
a budget: what some leave of their part is then spent here. Answers are committed to the cache as they arrive and booked as
this process's, so a shard that dies pays for nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tqdm.auto import tqdm

from rlaif_dagster.home import Home
from rlaif_dagster.judging.asking import Failure, Label, ask_all, ask_within, exhausted
from rlaif_dagster.judging.cache import Answer, AnswerCache, cache_path, open_cache
from rlaif_dagster.judging.ledger import act_for, payer, spent_usd, unsure_usd
from rlaif_dagster.judging.provider import connect
from rlaif_dagster.judging.template import Message
from rlaif_dagster.shards import shards, spread
from rlaif_dagster.spec.judge import ApiJudge as ApiSpec

ROUNDS = (
    32  # of `concurrency` requests in a piece at most: the end of a piece, when fewer are in flight, then costs little
)

Questions = dict[str, tuple[list[Message], Mapping[str, Any]]]  # by key: messages, and what is sent beside them


def ask(
    judge: str,
    spec: ApiSpec,
    home: Home,
    questions: Mapping[str, list[Message]],
    cache: AnswerCache,
    *,
    backoff: float,
    budget_usd: float | None,
    progress: str | None,
    poll: float,
    extra: Callable[[str], Mapping[str, Any]] = lambda key: {},
    label: Label | None = None,
) -> dict[str, Answer | Failure]:
    """The answer, or why there is none, to each question by its key; see `asking.ask_all`. Batches are not divided."""
    if not shards() or spec.batch:
        return asyncio.run(
            ask_all(
                connect(judge, spec), questions, cache, backoff=backoff, budget_usd=budget_usd, progress=progress,
                extra=extra, label=label, poll=poll,
            )
        )  # fmt: skip
    spent, unsure = spent_usd(home), unsure_usd(home)
    found = _in_shards(judge, spec, home, questions, extra, backoff, budget_usd, progress)
    left = {key: messages for key, messages in questions.items() if key not in found}
    if left and budget_usd is not None:
        rest = max(0.0, budget_usd - (spent_usd(home) - spent) - (unsure_usd(home) - unsure))
        asked = asyncio.run(
            ask_within(
                connect(judge, spec), left, cache, backoff=backoff, budget_usd=rest, progress=progress, extra=extra
            )
        )
        found |= asked.answers
        if asked.exhausted:
            raise exhausted(
                judge, spent_usd(home) - spent, unsure_usd(home) - unsure, budget_usd, len(questions) - len(found),
                len(questions),
            )  # fmt: skip
    return found


def _in_shards(
    judge: str,
    spec: ApiSpec,
    home: Home,
    questions: Mapping[str, list[Message]],
    extra: Callable[[str], Mapping[str, Any]],
    backoff: float,
    budget_usd: float | None,
    progress: str | None,
) -> dict[str, Answer | Failure]:
    """What the shards got; nothing for questions for which their part of the budget was too small."""
    keys = list(questions)
    size = min(-(-len(keys) // shards()), ROUNDS * spec.concurrency) if keys else 1
    pieces: list[Questions] = [
        {key: (questions[key], extra(key)) for key in keys[start : start + size]} for start in range(0, len(keys), size)
    ]
    at_once = min(shards(), len(pieces))
    limits = {name: getattr(spec, name) for name in ("requests_per_minute", "tokens_per_minute")}
    share = spec.model_copy(update={name: most / at_once for name, most in limits.items() if most is not None})
    budget = None if budget_usd is None else budget_usd / len(pieces)
    found: dict[str, Answer | Failure] = {}
    with tqdm(total=len(keys), desc=progress, unit="verdict", disable=None if progress else True) as bar:
        work = partial(_in_shard, judge, share, home, backoff, budget, payer())
        for _, answers in spread(work, pieces, computes=False):
            found |= answers
            bar.update(len(answers))
    return found


def _in_shard(
    judge: str,
    spec: ApiSpec,
    home: Home,
    backoff: float,
    budget_usd: float | None,
    process: str,
    questions: Questions,
) -> dict[str, Answer | Failure]:
    act_for(process)
    with open_cache(cache_path(home)) as cache:
        known = cache.get(questions)  # by a shard that died over them
        left = {key: messages for key, (messages, _) in questions.items() if key not in known}
        asked = asyncio.run(
            ask_within(
                connect(judge, spec), left, cache, backoff=backoff, budget_usd=budget_usd,
                extra=lambda key: questions[key][1],
            )
        )  # fmt: skip
    return {**known, **asked.answers}
