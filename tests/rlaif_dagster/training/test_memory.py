"""Memory that goes back to the system."""

from __future__ import annotations

import sys

import psutil
import pytest
import torch

from rlaif_dagster.training.memory import give_back, malloc_trim

BLOCK = 64 << 10  # bytes: below the size from which the C library asks the system for each block apart
BLOCKS = 2048  # 128 MiB


@pytest.mark.skipif(not sys.platform.startswith("linux") or torch.cuda.is_available(), reason="glibc's heap, on a CPU")
def test_what_the_heap_holds_free_goes_back() -> None:
    """Freed between blocks that live on, as a minibatch's activations are between what is kept: the heap keeps it by itself."""
    assert malloc_trim() is not None
    blocks = [torch.ones(BLOCK // 4) for _ in range(BLOCKS)]
    kept = blocks[::8]
    del blocks
    before = psutil.Process().memory_info().rss
    give_back()
    freed = before - psutil.Process().memory_info().rss
    assert freed > BLOCK * BLOCKS // 2
    assert all(bool((block == 1).all()) for block in kept)
