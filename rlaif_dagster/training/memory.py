"""The largest memory a training needed, in bytes: what a user compares with what a machine has."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from functools import cache

import torch

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB elsewhere


def reset_peak() -> None:
    """Start a new measurement on an accelerator; the process's own peak cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def give_back() -> None:
    """Let the C library return to the system what it holds free, where it can (glibc). Blocks of many sizes leave gaps that the
    next ones do not fit into, so that the heap grows although no more lives in it: 5% of PPO's peak on a CPU. On a GPU the
    tensors are not in that heap."""
    trim = malloc_trim()
    if trim is not None and not torch.cuda.is_available():
        trim(0)


@cache
def malloc_trim() -> Callable[[int], int] | None:
    """glibc's function of that name: 1 when memory was returned; None with another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def peak_bytes() -> int:
    """On CUDA the largest allocation since `reset_peak`, elsewhere the largest resident set of this process so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
