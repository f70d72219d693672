"""Advantages against three steps by hand and against the definition, a sum over the future, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlaif_dagster.training.ppo.advantages import gae, masked_mean, masked_variance, whiten


def test_three_steps_by_hand() -> None:
    # gamma 0.5, lambda 0.5: deltas 1 + 0.5*2 - 1 = 1; 0 + 0.5*4 - 2 = 0; 8 - 4 = 4
    # advantages: 4; 0 + 0.25*4 = 1; 1 + 0.25*1 = 1.25. The second answer is shorter and padded with rubbish.
    rewards = torch.tensor([[1.0, 0.0, 8.0], [3.0, 99.0, 99.0]])
    values = torch.tensor([[1.0, 2.0, 4.0], [1.0, 99.0, 99.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    advantages, returns = gae(rewards, values, mask, 0.5, 0.5)
    assert advantages.tolist() == [[1.25, 1.0, 4.0], [2.0, 0.0, 0.0]]
    assert returns.tolist() == [[2.25, 3.0, 8.0], [3.0, 0.0, 0.0]]


def test_lambda_one_is_the_discounted_return_and_zero_the_one_step_error() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.5, 0.25, 0.125]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert gae(rewards, values, mask, 1.0, 1.0)[1].tolist() == [[6.0, 5.0, 3.0]]
    assert gae(rewards, values, mask, 1.0, 0.0)[0].tolist() == [[1 + 0.25 - 0.5, 2 + 0.125 - 0.25, 3 - 0.125]]


def reference(rewards: np.ndarray, values: np.ndarray, length: int, gamma: float, lam: float) -> np.ndarray:
    """A_t = sum over l of (gamma lambda)^l delta_{t + l}, term by term."""
    out = np.zeros(len(rewards))
    for step in range(length):
        for ahead in range(length - step):
            now = step + ahead
            following = values[now + 1] if now + 1 < length else 0.0
            out[step] += (gamma * lam) ** ahead * (rewards[now] + gamma * following - values[now])
    return out


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0)])
def test_against_the_definition(gamma: float, lam: float) -> None:
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, 6, 11))
    lengths = rng.integers(1, 12, 6)
    mask = torch.arange(11) < torch.as_tensor(lengths)[:, None]
    expected = np.stack([reference(r, v, n, gamma, lam) for r, v, n in zip(rewards, values, lengths, strict=True)])
    advantages, returns = gae(torch.as_tensor(rewards), torch.as_tensor(values), mask, gamma, lam)
    torch.testing.assert_close(advantages, torch.as_tensor(expected))
    torch.testing.assert_close(returns, torch.as_tensor(np.where(mask, expected + values, 0.0)))


def test_whitening_is_over_the_whole_batch_and_skips_padding() -> None:
    values = torch.tensor([[1.0, 3.0, 1000.0], [5.0, 1000.0, 1000.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    # mean 3, population variance 8 / 3
    assert masked_mean(values, mask).item() == pytest.approx(3.0)
    assert masked_variance(values, mask).item() == pytest.approx(8 / 3)
    expected = [[-2 / (8 / 3) ** 0.5, 0.0, 0.0], [2 / (8 / 3) ** 0.5, 0.0, 0.0]]
    torch.testing.assert_close(whiten(values, mask), torch.tensor(expected))


def test_whitening_equal_advantages_gives_zeros() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert whiten(torch.full((2, 3), 0.25), mask).tolist() == [[0.0] * 3] * 2
