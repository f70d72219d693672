"""In which order a training sees its examples.

Batches of similar lengths waste little on padding (on a CPU, padding costs like text: a quarter of the work at batch 8
on short answers). Sorting everything would show a model its long examples first and the same neighbours every epoch, so
only short windows of a shuffle are sorted, and the batches of a window are shuffled again. The whole order is fixed
before training starts: a resumed training skips what it has seen and goes on exactly where it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

WINDOW = 4  # batches that are sorted together


def training_order(lengths: Sequence[int], epochs: float, batch_size: int, seed: int) -> list[int]:
    """Positions of the examples, `epochs` times each (a part of them in the last epoch when that is a fraction), to be cut
    into batches of `batch_size` from the front; a short batch can only be the last."""
    rng = np.random.default_rng(seed)
    total = max(1, round(len(lengths) * epochs))
    stream = np.concatenate([rng.permutation(len(lengths)) for _ in range(math.ceil(total / len(lengths)))])[:total]
    order: list[int] = []
    for start in range(0, total, WINDOW * batch_size):
        window = sorted(stream[start : start + WINDOW * batch_size].tolist(), key=lambda place: -lengths[place])
        batches = [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
        full = [batch for batch in batches if len(batch) == batch_size]
        order += [place for number in rng.permutation(len(full)) for place in full[number]]
        order += [place for batch in batches[len(full) :] for place in batch]
    return order
