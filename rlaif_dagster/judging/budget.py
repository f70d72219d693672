"""A budget that holds: a request starts only when its largest price still fits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class Budget:
    """US dollars of one run; None is without limit. Requests in flight count with the most that they can cost."""

    limit: float | None
    spent: float = 0.0
    exhausted: bool = False
    _reserved: float = 0.0
    _in_flight: int = 0
    _settled: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reserve(self, most: float) -> bool:
        """Whether a request that can cost `most` may start; waits while requests in flight may yet come out cheaper.
        Once one may not, none may."""
        async with self._settled:
            while not self.exhausted and not self._fits(most):
                if self._in_flight == 0:
                    self.exhausted = True
                else:
                    await self._settled.wait()
            if self.exhausted:
                self._settled.notify_all()
                return False
            self._reserved += most
            self._in_flight += 1
            return True

    async def settle(self, most: float, cost: float) -> None:
        """A request that had reserved `most` ended, and cost `cost`."""
        async with self._settled:
            self.spent += cost
            self._reserved -= most
            self._in_flight -= 1
            self._settled.notify_all()

    def _fits(self, most: float) -> bool:
        return self.limit is None or self.spent + self._reserved + most <= self.limit * (1 + 1e-9)
