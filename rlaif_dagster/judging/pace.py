"""How fast a provider may be asked: requests in flight, requests and tokens a minute, and pauses that it asks for.

When the provider pushes back (429, 503, 529), concurrency is cut by half the share of requests that it turned away lately,
as data-center TCP does (Alizadeh et al., 2010): a provider that turns everything away is soon asked one thing at a time,
one that turns away a few is not starved for it. Requests that were in flight together are one push, not many; rounds of
answers bring the concurrency back. Under the
account's limits requests are spaced evenly: no minute, wherever it begins, holds more than two requests beyond it.

Without limits, too, starts keep a distance: half of what spreads `allowed` requests evenly over the time that an answer takes, as
Linux paces TCP in slow start. Requests that start together are computed together on either side and end together; in
such waves everyone waits for the slowest of the wave, round after round. Spread out once, they stay apart.

Times are seconds of any steady clock, given by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTE = 60.0
LATELY = 1 / 16  # weight of the latest request in the share of those turned away
ROUNDS = 16  # of answers that bring concurrency from nothing to its most
SPREAD = 2.0  # how many times faster than one at a time, evenly over an answer's time, requests may start
LEAST = 0.001  # seconds; an event loop's clock is no finer, and answers that come this fast need no spreading


@dataclass
class Pace:
    """The pace of one run. `most` requests in flight at most; limits a minute are None where there are none."""

    most: int
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    in_flight: int = 0
    allowed: float = field(init=False)
    _next: float = float("-inf")  # when the spacing lets the next request start
    _paused: float = float("-inf")  # until when the provider wants to be left alone
    _cut: float = float("-inf")  # when concurrency was cut last
    _turned_away: float = 1.0  # share of requests lately; the first push is taken seriously
    _takes: float | None = None  # seconds that an answer takes lately

    def __post_init__(self) -> None:
        self.allowed = float(self.most)

    def wait(self, now: float) -> float | None:
        """Seconds until a request may start; None while one must end first."""
        if self.in_flight >= int(self.allowed):
            return None
        return max(0.0, self._next - now, self._paused - now)

    def start(self, now: float, tokens: float) -> None:
        """A request of about `tokens`, read and written, starts."""
        self.in_flight += 1
        spaced = [MINUTE / self.requests_per_minute] if self.requests_per_minute else []
        spaced += [tokens * MINUTE / self.tokens_per_minute] if self.tokens_per_minute else []
        apart = (self._takes or 0.0) / (SPREAD * self.allowed)
        spaced += [apart] if apart > LEAST else []
        if spaced:
            # a wait ends a little late in a busy event loop: one spacing may be caught up on
            late = 0.0 if self._next == float("-inf") else max(spaced)
            self._next = max(self._next, now - late) + max(spaced)

    def answered(self, expected: float, tokens: float, seconds: float = 0.0) -> None:
        """A request ended with an answer after `seconds`; it was expected to take `expected` tokens and took `tokens`."""
        self.in_flight -= 1
        lately = seconds if self._takes is None else self._takes + LATELY * (seconds - self._takes)
        self._takes = min(seconds, lately)  # down at once: a first answer that waited for a model to load says little
        self.allowed = min(self.most, self.allowed + max(1.0, self.most / ROUNDS) / self.allowed)
        self._turned_away *= 1 - LATELY
        if self.tokens_per_minute:
            self._next += (tokens - expected) * MINUTE / self.tokens_per_minute

    def failed(self) -> None:
        """A request ended without an answer, for a reason that says nothing about the pace."""
        self.in_flight -= 1

    def pushed_back(self, now: float, started: float, seconds: float | None) -> None:
        """The provider turned away a request that started at `started`, and asks for `seconds` of rest where it does."""
        self.in_flight -= 1
        self._turned_away += LATELY * (1 - self._turned_away)
        if started > self._cut:
            self.allowed, self._cut = max(1.0, self.allowed * (1 - self._turned_away / 2)), now
        if seconds is not None:
            self._paused = max(self._paused, now + seconds)
