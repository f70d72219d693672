"""Random numbers without a state: every draw is named by the seed, its purpose and its place.

A training that resumes at update 7 draws what an uninterrupted one would have drawn there, because nothing was carried
over: no random state needs to be saved, and none can be forgotten.
"""

from __future__ import annotations

import torch

from rlaif_dagster.hashing import content_hash


def generator(seed: int, *place: str | int) -> torch.Generator:
    """A CPU generator for one purpose at one place, such as `generator(seed, "answers", update)`."""
    return torch.Generator().manual_seed(int(content_hash(seed, *place), 16) % 2**63)


def shuffled(count: int, seed: int, *place: str | int) -> list[int]:
    """A permutation of range(count)."""
    order: list[int] = torch.randperm(count, generator=generator(seed, *place)).tolist()
    return order


def batch(count: int, size: int, number: int, seed: int) -> list[int]:
    """Indices of batch `number` in an endless run of epochs, each a fresh shuffle of range(count); a batch may reach into
    the next epoch."""
    places = range(number * size, (number + 1) * size)
    orders = {epoch: shuffled(count, seed, "prompts", epoch) for epoch in {place // count for place in places}}
    return [orders[place // count][place % count] for place in places]
