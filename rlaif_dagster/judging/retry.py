"""Asking again: exponential backoff with jitter, and what the provider asks for where it says so (Retry-After)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

LONGEST = 60.0  # seconds between tries, unless the provider asks for more
LONGEST_ASKED = 600.0  # seconds that a provider may ask for

Result = TypeVar("Result")


class Unavailable(Exception):
    """No answer this time. `seconds` is how long the provider asks to wait, where it does."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


async def with_retries(ask: Callable[[], Awaitable[Result]], retries: int, backoff: float) -> Result:
    """The first answer of at most `retries + 1` tries; the last Unavailable is raised."""
    for attempt in range(retries):
        try:
            return await ask()
        except Unavailable as error:
            await asyncio.sleep(delay(attempt, error.seconds, backoff, random.random()))
    return await ask()


def delay(attempt: int, asked: float | None, backoff: float, jitter: float) -> float:
    """Seconds before the next try, after try number `attempt` (from 0): between half and the whole of `backoff` doubled a
    try, at least what the provider asked for. `jitter` in 0..1 keeps clients that failed together from returning together."""
    own = min(LONGEST, backoff * 2.0**attempt) * (0.5 + 0.5 * jitter)
    return own if asked is None else min(asked, LONGEST_ASKED) + own * jitter


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date; None without."""
    found = {name.lower(): value for name, value in headers.items()}
    try:
        if "retry-after-ms" in found:
            return max(0.0, float(found["retry-after-ms"]) / 1000)
        return max(0.0, float(found["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        return _until(found.get("retry-after", ""))


def _until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
