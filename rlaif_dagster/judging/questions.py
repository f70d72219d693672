"""Which questions a study asks about its pairs: the mode of judging.

per_principle   every principle by itself, one request each
joint           all principles in one request, a verdict for each
sampled         one principle a pair, drawn by weight, as in constitutional AI (arXiv 2212.08073)

A drawn principle follows from the pair and the principles' names and weights alone (weighted rendezvous hashing), so an
edited text asks again for the pairs that drew it and no others, and an added principle takes its share of pairs from the
rest without moving any other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlaif_dagster.judging.verdicts import Mode, Order, Pair
from rlaif_dagster.spec.constitution import Constitution, Principle


@dataclass(frozen=True)
class Question:
    """One request: a pair under one principle, or under all of them at once, in an order."""

    pair: Pair
    principles: tuple[Principle, ...]
    order: Order

    @property
    def shown(self) -> tuple[str, str]:
        """The answers in the places of A and B."""
        return (self.pair.a, self.pair.b) if self.order == "ab" else (self.pair.b, self.pair.a)

    @property
    def texts(self) -> dict[str, str]:
        """The principles' texts by their names."""
        return {principle.id: principle.text.strip() for principle in self.principles}


def questions_of(
    pairs: Sequence[Pair], constitution: Constitution, orders: Sequence[Order], mode: Mode
) -> list[Question]:
    """Every question, pair by pair, principle by principle, order by order."""
    return [
        Question(pair, principles, order)
        for pair in pairs
        for principles in asked_together(pair, constitution, mode)
        for order in orders
    ]


def asked_together(pair: Pair, constitution: Constitution, mode: Mode) -> list[tuple[Principle, ...]]:
    """The pair's principles, those of one request together."""
    if mode == "joint":
        return [constitution.principles]
    return [(principle,) for principle in judged_by(pair, constitution, mode)]


def judged_by(pair: Pair, constitution: Constitution, mode: Mode) -> tuple[Principle, ...]:
    """The principles under which a pair is judged: all, or the one that it drew."""
    if mode != "sampled":
        return constitution.principles
    return (min(constitution.principles, key=lambda principle: (_draw(pair, principle), principle.id)),)


def _draw(pair: Pair, principle: Principle) -> float:
    """A draw of an exponential distribution with the principle's weight as its rate: the smallest of several falls to a
    principle with a probability in proportion to its weight."""
    digest = hashlib.sha256(f"{pair.pair_id}\n{principle.id}".encode()).digest()
    uniform = (int.from_bytes(digest[:8]) + 1) / (2**64 + 1)
    return -math.log(uniform) / principle.weight
