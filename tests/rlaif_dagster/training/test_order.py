"""The order of the examples: every example as often, neighbours of similar length, the same order for a seed."""

from __future__ import annotations

from collections import Counter

import numpy as np

from rlaif_dagster.training.order import training_order


def test_whole_epochs_use_every_example_as_often() -> None:
    order = training_order([5] * 10, epochs=3, batch_size=4, seed=0)
    assert Counter(order) == dict.fromkeys(range(10), 3)
    assert sorted(training_order(list(range(12)), epochs=2, batch_size=6, seed=0)[:12]) == list(
        range(12)
    )  # epoch by epoch


def test_a_fraction_of_an_epoch_takes_a_part() -> None:
    order = training_order([5] * 10, epochs=1.5, batch_size=4, seed=0)
    assert len(order) == 15
    assert set(Counter(order).values()) == {1, 2}
    assert len(training_order([5, 5, 5], epochs=0.01, batch_size=4, seed=0)) == 1


def test_batches_hold_similar_lengths() -> None:
    lengths = [10, 100] * 8  # sixteen examples, four batches of four: one window
    order = training_order(lengths, epochs=1, batch_size=4, seed=1)
    batches = [{lengths[place] for place in order[start : start + 4]} for start in range(0, 16, 4)]
    assert Counter(map(frozenset, batches)) == {frozenset({10}): 2, frozenset({100}): 2}


def test_only_the_last_batch_is_short_and_long_examples_are_not_always_first() -> None:
    lengths = list(np.random.default_rng(0).integers(10, 100, size=50))
    firsts = set()
    for seed in range(8):
        order = training_order(lengths, epochs=1, batch_size=4, seed=seed)
        assert sorted(order) == list(range(50))
        first = [lengths[place] for place in order[:4]]
        firsts.add(sum(first) / 4 > 55)
    assert firsts == {True, False}


def test_seed_decides() -> None:
    lengths = list(range(40))
    assert training_order(lengths, 2, 8, 3) == training_order(lengths, 2, 8, 3) != training_order(lengths, 2, 8, 4)
