"""A budget that holds: a request starts only when its largest price still fits."""

from __future__ import annotations

from dataclasses import dataclass

from rlaif_dagster.home import Home
from rlaif_dagster.judging.ledger import committed_usd


@dataclass
class Budget:
    """US dollars of one run; None is without limit. Requests in flight count with the most that they can cost, and so do
    those that ended without an answer but may have been billed (`unsure`): a timeout says nothing about the price."""

    limit: float | None
    spent: float = 0.0
    unsure: float = 0.0
    reserved: float = 0.0

    def fits(self, most: float) -> bool:
        """Whether a request that can cost `most` may start."""
        return self.limit is None or self.spent + self.unsure + self.reserved + most <= self.limit * (1 + 1e-9)

    def reserve(self, most: float) -> None:
        """A request that can cost `most` starts."""
        self.reserved += most

    def settle(self, most: float, cost: float, *, unsure: bool = False) -> None:
        """A request that had reserved `most` ended and cost `cost`; `unsure` whether it cost as much as `most`."""
        self.reserved -= most
        self.spent += cost
        self.unsure += most if unsure else 0.0


class SharedBudget:
    """US dollars for all judging of one command together; None is without limit. What was judged is kept."""

    def __init__(self, home: Home, usd: float | None) -> None:
        self.home, self.usd, self.before, self.told = home, usd, committed_usd(home), 0.0

    def tell(self, usd: float) -> None:
        """A step spent so much, which stands in this home's ledger only if it ran in this home."""
        self.told += usd

    def left(self) -> float | None:
        """What may still be spent."""
        return None if self.usd is None else max(self.usd - max(committed_usd(self.home) - self.before, self.told), 0.0)
