"""The largest memory a training needed, in bytes: what a user compares with what a machine has."""

from __future__ import annotations

import resource
import sys

import torch

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB elsewhere


def reset_peak() -> None:
    """Start a new measurement on an accelerator; the process's own peak cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """On CUDA the largest allocation since `reset_peak`, elsewhere the largest resident set of this process so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
