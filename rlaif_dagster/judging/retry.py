"""Asking again: exponential backoff with jitter, and what the provider asks for where it says so (Retry-After)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 60.0  # seconds between tries, unless the provider asks for more
LONGEST_ASKED = 600.0  # seconds that a provider may ask for
PATIENCE = 4  # times the tries, for a request that met a rate limit
RATE_LIMITED, OVERLOADED = "rate_limited", "overloaded"


class Unavailable(Exception):
    """No answer this time. `kind` is what happened, in a word; `seconds` how long the provider asks to wait, where it
    does; `billed` whether the request may have been paid for (it was read, and the answer was lost)."""

    def __init__(
        self, message: str, seconds: float | None = None, kind: str = "unavailable", *, billed: bool = False
    ) -> None:
        super().__init__(message)
        self.seconds, self.kind, self.billed = seconds, kind, billed

    @property
    def pushes_back(self) -> bool:
        """Whether the provider said that it is asked too much, and not that something broke."""
        return self.kind in {RATE_LIMITED, OVERLOADED}


def tries(error: Unavailable, retries: int) -> int:
    """How often a request that failed so may be asked in all. A rate limit passes: it is waited out longer."""
    return 1 + retries * (PATIENCE if error.pushes_back else 1)


def delay(attempt: int, asked: float | None, backoff: float, jitter: float) -> float:
    """Seconds before the next try, after try number `attempt` (from 0): between half and the whole of `backoff` doubled a
    try, at least what the provider asked for. `jitter` in 0..1 keeps clients that failed together from returning together."""
    own = min(LONGEST, backoff * 2.0 ** min(attempt, 16)) * (0.5 + 0.5 * jitter)
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
