"""In which order a training sees its examples.

Batches of similar lengths waste little on padding (on a CPU, padding costs like text: a quarter of the work at batch 8
on short answers). Sorting everything would show a model its long examples first and the same neighbours every epoch, so
only short windows of a shuffle are sorted, and the batches of a window are shuffled again. The whole order is fixed
before training starts: a resumed training skips what it has seen and goes on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW = 4  # batches that are sorted together


def training_order(lengths: Sequence[int], epochs: float, batch_size: int, seed: int) -> list[int]:
    """Positions of the examples, `epochs` times each (a part of them in the last epoch when that is a fraction), to be cut
    into batches of `batch_size` from the front; a short batch can only be the last."""
    rng = np.random.default_rng(seed)
    left = max(1, round(len(lengths) * epochs))
    order: list[int] = []
    carried: list[int] = []  # what filled no batch yet, so that only the very last batch can be short
    while left:
        epoch = rng.permutation(len(lengths))[:left].tolist()
        left -= len(epoch)
        for start in range(0, len(epoch), WINDOW * batch_size):
            window = carried + epoch[start : start + WINDOW * batch_size]
            whole = len(window) - len(window) % batch_size
            carried = window[whole:]
            by_length = sorted(window[:whole], key=lambda place: lengths[place])
            for batch in rng.permutation(whole // batch_size):
                order += by_length[batch * batch_size : (batch + 1) * batch_size]
    return order + carried
