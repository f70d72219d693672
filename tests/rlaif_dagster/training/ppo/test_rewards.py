"""The score lands on the end token and nowhere else; every token pays for its KL."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlaif_dagster.training.ppo.rewards import kl_estimate, shape_rewards

MASK = torch.tensor([[True, True, True, False], [True, True, True, True], [True, False, False, False]])


def test_k1_and_k3_by_hand() -> None:
    # p = 0.5, reference 0.25: log p/q = log 2; k3 = 0.5 - 1 + log 2
    logprobs, reference = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    assert kl_estimate(logprobs, reference, "k1").item() == pytest.approx(math.log(2))
    assert kl_estimate(logprobs, reference, "k3").item() == pytest.approx(0.5 - 1 + math.log(2))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_both_estimators_are_unbiased(estimator: str) -> None:
    policy, reference = torch.tensor([0.6, 0.3, 0.1]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    exact = (policy * (policy / reference).log()).sum()
    estimates = kl_estimate(policy.log(), reference.log(), estimator)  # type: ignore[arg-type]
    assert (policy * estimates).sum().item() == pytest.approx(exact.item())
    if estimator == "k3":
        assert bool((estimates >= 0).all())


def test_score_is_paid_on_the_last_token_alone() -> None:
    rewards = shape_rewards(
        torch.tensor([2.0, -1.0, 3.0]),
        torch.zeros(3, 4),
        MASK,
        torch.tensor([True, True, True]),
        kl_coefficient=0.1,
        missing_eos_penalty=5.0,
    )
    assert rewards.tolist() == [[0, 0, 2, 0], [0, 0, 0, -1], [3, 0, 0, 0]]


def test_answer_that_never_ends_is_charged() -> None:
    rewards = shape_rewards(
        torch.tensor([2.0, -1.0, 3.0]),
        torch.zeros(3, 4),
        MASK,
        torch.tensor([True, False, True]),
        kl_coefficient=0.1,
        missing_eos_penalty=0.5,
    )
    assert rewards[1].tolist() == [0, 0, 0, -1.5]
    assert rewards[0].tolist() == [0, 0, 2, 0]


def test_kl_is_charged_on_answer_tokens_only() -> None:
    kl = torch.full((3, 4), 10.0)
    rewards = shape_rewards(
        torch.tensor([1.0, 1.0, 1.0]),
        kl,
        MASK,
        torch.tensor([True, True, True]),
        kl_coefficient=0.05,
        missing_eos_penalty=0.0,
    )
    assert rewards.tolist() == [[-0.5, -0.5, 0.5, 0], [-0.5, -0.5, -0.5, 0.5], [0.5, 0, 0, 0]]


def test_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    batch, width = 7, 9
    lengths = rng.integers(1, width + 1, batch)
    kl, scores, ended = rng.normal(size=(batch, width)), rng.normal(size=batch), rng.random(batch) < 0.5
    expected = np.zeros((batch, width))
    for row in range(batch):
        for step in range(lengths[row]):
            expected[row, step] = -0.3 * kl[row, step]
        expected[row, lengths[row] - 1] += scores[row] - (0 if ended[row] else 0.7)
    mask = torch.arange(width) < torch.as_tensor(lengths)[:, None]
    found = shape_rewards(
        torch.as_tensor(scores),
        torch.as_tensor(kl),
        mask,
        torch.as_tensor(ended),
        kl_coefficient=0.3,
        missing_eos_penalty=0.7,
    )
    torch.testing.assert_close(found, torch.as_tensor(expected))


def test_empty_answer_is_an_error() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    with pytest.raises(ValueError, match="without tokens"):
        shape_rewards(
            torch.zeros(2), torch.zeros(2, 2), mask, torch.ones(2).bool(), kl_coefficient=0.0, missing_eos_penalty=0.0
        )
