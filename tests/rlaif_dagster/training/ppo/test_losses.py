"""The clipped objective case by case, and its gradient where clipping must stop it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlaif_dagster.training.ppo.losses import approximate_kl, clipped, explained_variance, policy_loss, value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.2),  # inside the clip range: r A, whose derivative by log r is r A
        (1.5, 2.0, 2.4, 0.0),  # better already: clipped to 1.2 A, no gradient
        (0.5, 2.0, 1.0, 1.0),  # worse: min takes the plain term, which pulls back
        (1.5, -2.0, -3.0, -3.0),
        (0.5, -2.0, -1.6, 0.0),
    ],
)
def test_policy_objective_by_hand(ratio: float, advantage: float, objective: float, slope: float) -> None:
    log_ratio = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    loss = policy_loss(log_ratio, torch.tensor([advantage], dtype=torch.float64), 0.2)
    loss.sum().backward()
    assert loss.item() == pytest.approx(-objective)
    assert log_ratio.grad is not None
    assert log_ratio.grad.item() == pytest.approx(-slope)


@pytest.mark.parametrize(
    ("value", "old", "target", "loss"),
    [
        (0.1, 0.0, 1.0, 0.5 * 0.81),  # moved by less than the clip: plain error
        (0.5, 0.0, 1.0, 0.5 * 0.64),  # towards the return, past the clip: only the first 0.2 counts
        (-0.5, 0.0, 1.0, 0.5 * 2.25),  # away from it: the plain error is larger
    ],
)
def test_value_loss_by_hand(value: float, old: float, target: float, loss: float) -> None:
    found = value_loss(*(torch.tensor([number]).double() for number in (value, old, target)), 0.2)
    assert found.item() == pytest.approx(loss)


def test_against_plain_numpy() -> None:
    rng = np.random.default_rng(2)
    log_ratio, advantages, values, old, returns = rng.normal(size=(5, 200)) * 0.4
    ratio = np.exp(log_ratio)
    objective = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
    moved = old + np.clip(values - old, -0.2, 0.2)
    squared = 0.5 * np.maximum((values - returns) ** 2, (moved - returns) ** 2)
    tensors = {"log_ratio": log_ratio, "advantages": advantages, "values": values, "old": old, "returns": returns}
    t = {name: torch.as_tensor(array) for name, array in tensors.items()}
    torch.testing.assert_close(policy_loss(t["log_ratio"], t["advantages"], 0.2), torch.as_tensor(-objective))
    torch.testing.assert_close(value_loss(t["values"], t["old"], t["returns"], 0.2), torch.as_tensor(squared))
    torch.testing.assert_close(approximate_kl(t["log_ratio"]), torch.as_tensor(ratio - 1 - log_ratio))
    assert clipped(t["log_ratio"], 0.2).sum().item() == (np.abs(ratio - 1) > 0.2).sum()


def test_explained_variance_by_hand() -> None:
    mask = torch.tensor([[True, True, True, False]])
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0]])
    assert explained_variance(returns, returns, mask).item() == pytest.approx(1.0)
    assert explained_variance(torch.zeros(1, 4), returns, mask).item() == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask).item() == pytest.approx(-3.0)  # 1 - 4 Var / Var
    assert explained_variance(returns, torch.ones(1, 4), mask).item() == 0.0  # nothing to explain
