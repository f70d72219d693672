"""Attention under a sparse mask, without the keys that nobody in a stretch of queries may see.

A row of `language.scoring` holds many short branches side by side. Its mask hides each from the others, but
`scaled_dot_product_attention` computes what a mask hides like everything else; on a CPU, whose matrix products are the
slower the more keys there are, that can be half of the work. Inside `within(visible)` calls with a mask of that shape are
done stretch by stretch, over the keys that the stretch sees. What is left out had the weight 0, so the result is the same
up to rounding. It works on any model that uses PyTorch's function (transformers' `sdpa`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

STRETCH = 64  # queries; fewer see fewer keys, more make better use of the processor
WORTH = 0.9  # of all keys: where the stretches see more, picking keys costs more than it saves


@contextmanager
def within(visible: Tensor) -> Iterator[None]:
    """Spare hidden keys of `visible` [queries, keys] (bool) in every attention with a mask of this shape."""
    stretches = [
        (slice(start, start + STRETCH), visible[start : start + STRETCH].any(0).nonzero()[:, 0])
        for start in range(0, len(visible), STRETCH)
    ]
    seen = sum(len(visible[rows]) * len(keys) for rows, keys in stretches)
    if seen > WORTH * visible.numel():
        yield
        return
    with _Sparse(tuple(visible.shape), stretches):
        yield


class _Sparse(TorchFunctionMode):
    """Does the attention of one mask's shape in `stretches`: queries, and the numbers of their keys."""

    def __init__(self, shape: tuple[int, ...], stretches: list[tuple[slice, Tensor]]) -> None:
        super().__init__()
        self.shape = shape
        self.stretches = stretches
        self._masks: tuple[Tensor, list[Tensor]] | None = None  # a mask, which all layers share, and its parts

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        mask = kwargs.get("attn_mask") if func is scaled_dot_product_attention else None
        if mask is None or tuple(mask.shape[-2:]) != self.shape or len(args) != 3:
            return func(*args, **kwargs)
        query, key, value = args
        return self._attention(
            query, key, value, mask, {name: value for name, value in kwargs.items() if name != "attn_mask"}
        )

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, rest: Mapping[str, Any]) -> Tensor:
        if self._masks is None or self._masks[0] is not mask:
            parts = [mask[..., rows, :].index_select(-1, keys) for rows, keys in self.stretches]
            self._masks = mask, parts
        return torch.cat(
            [
                scaled_dot_product_attention(
                    query[..., rows, :],
                    key.index_select(-2, keys),
                    value.index_select(-2, keys),
                    attn_mask=part,
                    **rest,
                )
                for (rows, keys), part in zip(self.stretches, self._masks[1], strict=True)
            ],
            dim=-2,
        )
