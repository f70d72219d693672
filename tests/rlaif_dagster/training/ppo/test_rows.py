"""Packed and growing rows give what separate plain passes give: states, gradients, and step-by-step decoding."""

from __future__ import annotations

import pytest
import torch

from rlaif_dagster.training.ppo.rows import ATTENTION, Growing, Packed, common_prefix
from tests.rlaif_dagster.training.conftest import FreshModel

CPU = torch.device("cpu")
SHARED = [1, 40, 41, 42]
SEQUENCES = [[*SHARED, 50, 51, 52, 53, 54, 55], [*SHARED, 60], [*SHARED, 50, 51, 70]]


def test_layout_by_hand() -> None:
    packed = Packed.pack([[1, 2, 3], [1, 2], [1, 2, 4, 5]], CPU)
    assert packed.tokens.tolist() == [1, 2, 3, 4, 5]  # the shared 1 2 once
    assert packed.positions.tolist() == [0, 1, 2, 2, 3]
    assert packed.index.tolist() == [[0, 1, 2, 0], [0, 1, 0, 0], [0, 1, 3, 4]]
    assert packed.inverse.tolist() == [0, 1, 2, 10, 11]
    assert packed.tokens[packed.index[2]].tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("sequences", "length"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2, 3]], 2),
        ([[1], [2]], 0),
        ([[7, 8]], 2),
        ([[3, 1], [2, 1], [3, 1]], 0),
    ],
)
def test_common_prefix(sequences: list[list[int]], length: int) -> None:
    assert common_prefix(sequences) == length


@pytest.mark.parametrize(
    "sequences", [SEQUENCES, SEQUENCES[:1], [[5, 6, 7], [8, 9], [10]]], ids=["shared", "one", "nothing shared"]
)
def test_packed_pass_equals_separate_passes(fresh_model: FreshModel, sequences: list[list[int]]) -> None:
    model = fresh_model().model
    embeddings = model.get_input_embeddings().weight.requires_grad_(True)
    trunk = model.model

    def pull(states: list[torch.Tensor]) -> torch.Tensor:
        return sum((state.sin().sum() * (number + 1) for number, state in enumerate(states)), torch.zeros(()))

    plain = [trunk(input_ids=torch.tensor([sequence])).last_hidden_state[0] for sequence in sequences]
    (gradient,) = torch.autograd.grad(pull(plain), embeddings)
    model.set_attn_implementation(ATTENTION)
    packed = Packed.pack(sequences, CPU)
    row = trunk(input_ids=packed.tokens[None], position_ids=packed.positions[None], use_cache=False, rows=packed)
    states = [
        row.last_hidden_state[0][packed.index[number, : len(sequence)]] for number, sequence in enumerate(sequences)
    ]
    for mine, theirs in zip(states, plain, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    (ours,) = torch.autograd.grad(pull(states), embeddings)
    torch.testing.assert_close(ours, gradient, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_growing_equals_the_whole_sequence(fresh_model: FreshModel) -> None:
    model = fresh_model().model
    continuations = [[100, 101, 102], [110, 111, 112], [120, 121, 122]]
    whole = [sequence + more for sequence, more in zip(SEQUENCES, continuations, strict=True)]
    plain = [model.model(input_ids=torch.tensor([sequence])).last_hidden_state[0, -3:] for sequence in whole]

    model.set_attn_implementation(ATTENTION)
    packed = Packed.pack(SEQUENCES, CPU)
    rows = Growing(packed, [len(sequence) for sequence in SEQUENCES], room=3)
    model.model(input_ids=packed.tokens[None], position_ids=packed.positions[None], use_cache=False, rows=rows)
    rows.advance()
    kept = torch.arange(3)
    for step in range(3):
        tokens = torch.tensor([continuations[row][step] for row in kept.tolist()])
        found = model.model(input_ids=tokens[None], position_ids=rows.lengths[None], use_cache=False, rows=rows)
        rows.advance()
        for row, state in zip(kept.tolist(), found.last_hidden_state[0], strict=True):
            torch.testing.assert_close(state, plain[row][step], atol=1e-5, rtol=1e-5)
        if step == 0:  # the longest row leaves; the others go on undisturbed
            rows.keep(torch.tensor([1, 2]))
            kept = torch.tensor([1, 2])


def test_pass_without_a_layout_is_refused(fresh_model: FreshModel) -> None:
    model = fresh_model().model
    model.set_attn_implementation(ATTENTION)
    with pytest.raises(ValueError, match="rows"):
        model(input_ids=torch.tensor([[1, 2]]))
