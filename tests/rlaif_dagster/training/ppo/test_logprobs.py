"""Log-probabilities, entropies, divergences and gradients against torch's own on whole logits."""

from __future__ import annotations

import math

import pytest
import torch

from rlaif_dagster.training.ppo import logprobs
from rlaif_dagster.training.ppo.logprobs import divergence, scored, token_logprobs


def test_by_hand() -> None:
    # two tokens with logits 0 and log 3 at temperature 1: probabilities 1/4 and 3/4
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3)]])
    found, entropy = token_logprobs(hidden, weight, None, torch.tensor([0]), 1.0)
    assert found.item() == pytest.approx(math.log(0.25))
    assert entropy.item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))


@pytest.fixture(params=[None, "bias"])
def layer(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor | None]:
    torch.manual_seed(3)
    return torch.randn(40, 8).double(), torch.randn(40).double() if request.param else None


def test_against_torch_in_chunks(
    layer: tuple[torch.Tensor, torch.Tensor | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 80)  # two positions a chunk
    weight, bias = layer
    hidden = torch.randn(7, 8).double().requires_grad_(True)
    tokens, upstream = torch.randint(40, (7,)), torch.randn(7).double()
    plain = (torch.nn.functional.linear(hidden, weight, bias) / 0.7).log_softmax(-1)
    expected = plain.gather(1, tokens[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(expected @ upstream, hidden)

    found, entropy = token_logprobs(hidden, weight, bias, tokens, 0.7)
    (ours,) = torch.autograd.grad(found @ upstream, hidden)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(entropy, -(plain.exp() * plain).sum(-1))
    torch.testing.assert_close(ours, gradient)
    assert not entropy.requires_grad


def test_gradient_numerically() -> None:
    torch.manual_seed(4)
    weight, tokens = torch.randn(11, 5).double(), torch.randint(11, (3,))
    hidden = torch.randn(3, 5).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda states: token_logprobs(states, weight, None, tokens, 1.3)[0], (hidden,))


def test_entropy_gradient(layer: tuple[torch.Tensor, torch.Tensor | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 80)
    weight, bias = layer
    hidden = torch.randn(5, 8).double().requires_grad_(True)
    tokens, upstream = torch.randint(40, (5,)), torch.randn(2, 5).double()
    plain = (torch.nn.functional.linear(hidden, weight, bias) / 0.7).log_softmax(-1)
    expected = plain.gather(1, tokens[:, None])[:, 0] @ upstream[0] - (plain.exp() * plain).sum(-1) @ upstream[1]
    found, entropy = token_logprobs(hidden, weight, bias, tokens, 0.7, entropy_gradient=True)
    ours = found @ upstream[0] + entropy @ upstream[1]
    torch.testing.assert_close(ours, expected)
    gradients = [torch.autograd.grad(total, hidden)[0] for total in (ours, expected)]
    torch.testing.assert_close(*gradients)


def test_divergence(layer: tuple[torch.Tensor, torch.Tensor | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 80)
    first, second = torch.randn(2, 5, 8).double()
    p, q = ((torch.nn.functional.linear(states, *layer) / 0.5).log_softmax(-1) for states in (first, second))
    expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(divergence(first, second, *layer, 0.5), expected)
    assert divergence(first, first, *layer, 0.5).abs().max().item() == pytest.approx(0.0, abs=1e-12)


def test_trainable_output_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="frozen"):
        token_logprobs(torch.zeros(1, 2), torch.zeros(3, 2, requires_grad=True), None, torch.tensor([0]), 1.0)


def test_scored_alone_they_are_the_same_to_the_last_bit(
    layer: tuple[torch.Tensor, torch.Tensor | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 80)
    weight, bias = layer
    hidden, tokens = torch.randn(7, 8).double(), torch.randint(40, (7,))
    assert torch.equal(scored(hidden, weight, bias, tokens, 0.7), token_logprobs(hidden, weight, bias, tokens, 0.7)[0])
    assert scored(hidden[:0], weight, bias, tokens[:0], 0.7).shape == (0,)
