"""A budget that holds: a request starts only when its largest price still fits."""

from __future__ import annotations

from dataclasses import dataclass


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
