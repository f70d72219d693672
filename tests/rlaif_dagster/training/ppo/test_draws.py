"""Draws are named, not carried over: the same place gives the same numbers whatever was drawn before."""

from __future__ import annotations

from collections import Counter

import torch

from rlaif_dagster.training.ppo.draws import batch, generator, shuffled


def test_a_place_has_its_numbers() -> None:
    first = torch.rand(3, generator=generator(0, "answers", 4))
    torch.rand(100, generator=generator(0, "answers", 3))
    assert torch.equal(torch.rand(3, generator=generator(0, "answers", 4)), first)
    others = [generator(1, "answers", 4), generator(0, "answers", 5), generator(0, "minibatches", 4)]
    assert all(not torch.equal(torch.rand(3, generator=other), first) for other in others)


def test_every_prompt_once_an_epoch() -> None:
    batches = [
        batch(10, 4, number, seed=0) for number in range(5)
    ]  # two epochs of ten prompts, a batch across the border
    flat = [place for part in batches for place in part]
    assert Counter(flat[:10]) == Counter(range(10)) == Counter(flat[10:])
    assert flat[:10] != flat[10:] != sorted(flat[10:])


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    assert Counter(batch(3, 7, 0, seed=1)) == Counter({0: 2, 1: 2, 2: 2}) + Counter([shuffled(3, 1, "prompts", 2)[0]])
