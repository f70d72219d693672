"""Attention over the keys that are seen equals attention over all of them, and spares the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from rlaif_dagster.language import scoring, sparse_attention
from rlaif_dagster.language.base_model import LanguageModel
from tests.rlaif_dagster.language.test_scoring import assert_same, plain


def branches(prefix: int, lengths: list[int]) -> torch.Tensor:
    """Branches side by side: each sees the prefix and itself up to the query."""
    visible = torch.zeros(sum(lengths), prefix + sum(lengths), dtype=torch.bool)
    visible[:, :prefix] = True
    start = 0
    for length in lengths:
        visible[start : start + length, prefix + start : prefix + start + length] = (
            torch.ones(length, length).tril() > 0
        )
        start += length
    return visible


class Counted(TorchFunctionMode):
    """Queries times keys of every attention."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is scaled_dot_product_attention:
            self.pairs += args[0].shape[-2] * args[1].shape[-2]
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Counted]:
    with Counted() as mode:
        yield mode


@pytest.mark.parametrize("lengths", [[40, 70, 3, 90, 1, 96], [300], [5] * 40])
def test_same_result_from_fewer_keys(lengths: list[int]) -> None:
    torch.manual_seed(0)
    visible = branches(50, lengths)
    queries, keys = visible.shape
    query, key, value = (torch.randn(1, 6, n, 16) for n in (queries, keys, keys))
    mask = scoring._additive(visible, torch.float32)[None, None]
    whole = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    with counted() as work, sparse_attention.within(visible):
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
        again = scaled_dot_product_attention(query, key, value, attn_mask=mask * 1, scale=0.3)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(again, whole, atol=1e-6, rtol=0)
    assert work.pairs < 2 * queries * keys


def test_other_attention_is_left_alone() -> None:
    """Without a mask, or with one of another shape, nothing is left out; and a mask that shows nearly all is not cut."""
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, 2, 200, 8) for _ in range(3))
    whole = scaled_dot_product_attention(query, key, value)
    with counted() as work:
        with sparse_attention.within(branches(0, [20] * 10)):
            assert torch.equal(scaled_dot_product_attention(query, key, value), whole)
            small = torch.zeros(10, 10)
            scaled_dot_product_attention(*(x[:, :, :10] for x in (query, key, value)), attn_mask=small)
        with sparse_attention.within(torch.ones(200, 200) > 0):
            scaled_dot_product_attention(query, key, value, attn_mask=torch.zeros(200, 200))
    assert work.pairs == 200 * 200 + 10 * 10 + 200 * 200


def test_scores_are_those_of_plain_passes_at_a_fraction_of_the_attention(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve questions of 40 tokens after 30 shared ones."""
    generator = torch.Generator().manual_seed(2)
    shared = list(range(10, 40))
    requests = [
        ([*shared, *torch.randint(5, 400, (40,), generator=generator).tolist()], [answer])
        for _ in range(12)
        for answer in (5, 6, 7)
    ]
    with counted() as sparse:
        found = scoring.score(tiny_model, requests)
    monkeypatch.setattr(sparse_attention, "WORTH", 0.0)
    with counted() as dense:
        scoring.score(tiny_model, requests)
    assert_same(found, plain(tiny_model, requests))
    assert sparse.pairs < 0.5 * dense.pairs
