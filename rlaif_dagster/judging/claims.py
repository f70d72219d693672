"""Who is asking what: of several processes that want the same answer, one asks and the others wait for it.

A claim is a row beside the answers. It holds as long as its process does: each holds a lock of the operating system on a
file of its own, which ends with it however it ends, so that what a killed process had claimed is anybody's again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout

from rlaif_dagster.home import Home
from rlaif_dagster.judging.asking import Failure
from rlaif_dagster.judging.cache import Answer, AnswerCache
from rlaif_dagster.judging.ledger import committed_usd

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_SECONDS = 0.5  # between looks at what another process is asking


@contextmanager
def claiming(cache: AnswerCache, folder: Path, keys: Sequence[str]) -> Iterator[set[str]]:
    """Which of the keys are this block's to ask: those that no living process has claimed. They are given back when it ends,
    with or without their answers."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{os.getpid()}-{uuid4().hex[:8]}"
    lock = FileLock(folder / f"{owner}.lock")
    with lock:
        try:
            cache.forget_claims([one for one in cache.claimants() if not _is_alive(folder, one)])
            yield cache.claim(keys, owner)
        finally:
            cache.forget_claims([owner])
            (folder / f"{owner}.lock").unlink(missing_ok=True)


def ask_once(
    cache: AnswerCache,
    home: Home,
    questions: Mapping[str, T],
    ask: Callable[[dict[str, T], float | None], Mapping[str, Answer | Failure]],
    budget_usd: float | None,
) -> tuple[dict[str, Answer | Failure], dict[str, Answer]]:
    """What came of the questions that fell to this process, by `ask` (given them, and what is left of the budget), and the
    answers that others got meanwhile. What another gives up unanswered is asked here."""
    fresh: dict[str, Answer | Failure] = {}
    elsewhere: dict[str, Answer] = {}
    left, before, told = dict(questions), committed_usd(home), False
    while left:
        with claiming(cache, home.work / "asking", list(left)) as own:
            if mine := {key: question for key, question in left.items() if key in own}:
                budget = None if budget_usd is None else max(0.0, budget_usd - (committed_usd(home) - before))
                fresh |= ask(mine, budget)
        elsewhere |= cache.get([key for key in left if key not in fresh])
        left = {key: question for key, question in left.items() if key not in fresh and key not in elsewhere}
        if left and not mine:
            if not told:
                log.warning("waiting for %d answers that another process is asking for", len(left))
                told = True
            time.sleep(LOOK_SECONDS)
    return fresh, elsewhere


def _is_alive(folder: Path, owner: str) -> bool:
    path = folder / f"{owner}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            pass
    except Timeout:
        return True
    path.unlink(missing_ok=True)
    return False
