"""Sequences of different lengths through one forward pass, without padding and with what they share computed once.

Training, scoring and sampling see short sequences of very different lengths that begin alike (the chat template's system
message). So tokens are laid out one after another in a single row: the shared beginning once, then what each sequence
adds. Linear layers, where nearly all the work is, see every token once and no padding. Attention alone needs to know
who belongs to whom: it gathers the row into [B, T], computes, and scatters back. Sequences are right-padded there, so a
plain causal mask is right and padding is never attended to; the gather's gradient sums what several sequences send back
into a shared beginning, so gradients are exact too.

The layout reaches the attention layers of an unmodified transformers model through its attention interface, as the
keyword `rows` of the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION = "rlaif_rows"


class Rows(Protocol):
    """How the tokens of one forward pass attend to one another."""

    @property
    def width(self) -> int:
        """Tokens of the longest sequence."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention output [N, heads, width] for query [N, heads, width], key and value [N, key heads, width]."""


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    rows: Rows | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, heads, N, width] and so on; output [1, N, heads, width]."""
    if rows is None:
        raise ValueError(f"attention {ATTENTION!r} needs a layout: pass rows=... to the model")
    if others.get("softcap") is not None or others.get("s_aux") is not None:
        raise ValueError("attention with capped scores or sinks is not supported by PPO's layout")
    window = others.get("sliding_window")
    if window is not None and rows.width > window:
        raise ValueError(f"a sequence of {rows.width} tokens exceeds the attention window of {window}")
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    output = rows.attend(int(module.layer_idx), query, key, value, scaling)
    return output[None], None


AttentionInterface.register(ATTENTION, _attention)


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    low, high = min(sequences, key=tuple), max(sequences, key=tuple)  # in order, the extremes differ first
    pairs = zip(low, high, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(low), len(high)))


@dataclass(frozen=True)
class Packed:
    """B whole sequences in one row of N tokens.

    `tokens` and `positions` are [N]; `index` [B, T] says where in the row each sequence's token lies (0 on padding);
    `inverse` [N] where in the flattened [B, T] each token of the row lies (its first place, where several share it).
    """

    tokens: Tensor
    positions: Tensor
    index: Tensor
    inverse: Tensor

    @classmethod
    def pack(cls, sequences: Sequence[Sequence[int]], device: torch.device) -> Packed:
        """Lay out `sequences` (none empty)."""
        shared = common_prefix(sequences)
        width = max(map(len, sequences))
        tokens = list(sequences[0][:shared])
        positions = list(range(shared))
        inverse = list(range(shared))
        index = torch.zeros(len(sequences), width, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            index[row, :shared] = torch.arange(shared)
            index[row, shared : len(sequence)] = torch.arange(len(tokens), len(tokens) + len(sequence) - shared)
            tokens.extend(sequence[shared:])
            positions.extend(range(shared, len(sequence)))
            inverse.extend(range(row * width + shared, row * width + len(sequence)))
        return cls(*(torch.as_tensor(part, device=device) for part in (tokens, positions, index, inverse)))

    @property
    def width(self) -> int:
        return self.index.shape[1]

    def spread(self, states: Tensor) -> Tensor:
        """[N, heads, width] to [B, heads, T, width]."""
        batch, width = self.index.shape
        return states.index_select(0, self.index.flatten()).unflatten(0, (batch, width)).transpose(1, 2)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        output = scaled_dot_product_attention(
            self.spread(query), self.spread(key), self.spread(value), is_causal=True, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2).flatten(0, 1).index_select(0, self.inverse)


class Growing:
    """B sequences that grow by one token a pass: keys and values in buffers allocated once, each row at its own length.

    The first pass is that of the `Packed` prompts, whose keys and values are kept; afterwards each pass takes one token a row.
    `lengths` [B] is how many tokens each row holds: the position of its next one.
    """

    def __init__(self, prompts: Packed, lengths: Sequence[int], room: int) -> None:
        device = prompts.tokens.device
        self.lengths = torch.as_tensor(lengths, device=device)
        self._prompts: Packed | None = prompts
        self._capacity = max(lengths) + room
        self._held = max(lengths)  # no row is longer than this
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._places = torch.arange(self._capacity, device=device)

    @property
    def width(self) -> int:
        return self._capacity

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        if self._prompts is not None:
            for buffers, states in ((self._keys, key), (self._values, value)):
                spread = self._prompts.spread(states)
                buffers[layer] = spread.new_zeros(*spread.shape[:2], self._capacity, spread.shape[3])
                buffers[layer][:, :, : spread.shape[2]] = spread
            return self._prompts.attend(layer, query, key, value, scaling)
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        self._keys[layer][rows, :, self.lengths] = key
        self._values[layer][rows, :, self.lengths] = value
        visible = (self._places[: self._held + 1] <= self.lengths[:, None])[:, None, None]
        # one query a row: its heads are grouped by the key head they share, so keys need not be repeated for them
        grouped = query.unflatten(1, (key.shape[1], -1))
        keys, values = (buffer[layer][:, :, : self._held + 1] for buffer in (self._keys, self._values))
        return scaled_dot_product_attention(grouped, keys, values, attn_mask=visible, scale=scaling).flatten(1, 2)

    def advance(self) -> None:
        """Call after each pass: the prompts, or the new tokens, are held now."""
        if self._prompts is not None:
            self._prompts = None
        else:
            self.lengths = self.lengths + 1
            self._held += 1

    def keep(self, rows: Tensor) -> None:
        """Drop every row but `rows` [B'] (indices)."""
        self.lengths = self.lengths[rows]
        self._held = int(self.lengths.max())
        for buffers in (self._keys, self._values):
            for layer, states in buffers.items():
                buffers[layer] = states[rows]
