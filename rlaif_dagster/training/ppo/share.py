"""What one of several processes does of a training that they make together, and how they come to the same numbers.

All of them run the same loop on the same prompts with the same draws. What is costly, each does for its own rows alone, every
n-th of a batch; put together again in the batch's order, the results are the same bits in every process, so whatever is decided
from them (the reward's units, whitening, the KL's guard and its controller, which policy is the best) is decided alike by all.
Gradients are summed, and the optimizers make the same step. What reaches outside (the judge, files) is the first one's.

One process is the case in which nothing is exchanged: every method returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from rlaif_dagster.training.processes import Followed, meet, rank, world_size

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The part of process `rank`, from 0, of `number`."""

    rank: int = 0
    number: int = 1

    @classmethod
    def here(cls) -> Share:
        """This process's own, by what the launcher says; it has met the others when this returns."""
        if world_size() > 1:
            meet()
        return cls(rank(), world_size())

    def of(self, rows: Any) -> Any:
        """This process's rows of a sequence or a tensor [B, ...]: none where there are fewer rows than processes."""
        return rows[self.rank :: self.number]

    def each(self, compute: Callable[[], T]) -> list[T]:
        """`compute()` of every process, in their order. What one of them raises, all raise, so that none waits in vain."""
        if self.number == 1:
            return [compute()]
        own: tuple[T | None, Exception | None]
        try:
            own = compute(), None
        except Exception as raised:
            own = None, raised
        outcomes: list[Any] = [None] * self.number
        torch.distributed.all_gather_object(outcomes, own)
        if errors := [error for _, error in outcomes if error is not None]:
            raise errors[0]
        return [value for value, _ in outcomes]

    def in_first(self, compute: Callable[[], T]) -> T:
        """`compute()` of the first process, which alone calls it, in all of them."""
        return self.each(compute if self.rank == 0 else lambda: None)[0]  # type: ignore[return-value]

    def gathered(self, own: Sequence[T]) -> list[T]:
        """All rows, from what each process has for its own."""
        parts = self.each(lambda: own)
        whole: list[Any] = [None] * sum(map(len, parts))
        for number, part in enumerate(parts):
            whole[number :: self.number] = part
        return whole

    def rows(self, own: Tensor) -> Tensor:
        """All rows [B, ...], from each process's [b, ...]; those that are shorter are padded with zeros on the right."""
        if self.number == 1:
            return own
        parts = self.each(own.cpu)
        widths = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
        whole = own.new_zeros(sum(map(len, parts)), *widths)
        for number, part in enumerate(parts):
            whole[(slice(number, None, self.number), *map(slice, part.shape[1:]))] = part.to(whole.device)
        return whole

    def sums(self, compute: Callable[[], dict[str, float]]) -> dict[str, float]:
        """`compute()` of all processes, added up name by name."""
        first, *others = self.each(compute)
        return (
            {name: value + sum(other[name] for other in others) for name, value in first.items()} if others else first
        )

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make every parameter's gradient the sum of all processes'."""
        if self.number == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:  # this process had no row
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)

    def leave_to_first(self) -> None:
        """Raises Followed in all processes but the first: what comes now is its own."""
        if self.rank:
            raise Followed


ALONE = Share()
