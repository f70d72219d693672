"""Matrix products in float32 by oneDNN where MKL leaves half of the processor unused.

PyTorch's CPU build multiplies float32 matrices with MKL, which on AMD's processors keeps to AVX2. oneDNN, in the same build
and used there for other types, multiplies with AVX-512 on any maker's: twice as fast at nearly every shape that a language
model has, forwards and backwards (docs/experiments.md). So on such a processor `use` replaces the kernel behind `aten::mm`
and `aten::addmm` for the whole process, in the way that `torch.library.get_kernel` is documented for; other types, other
devices and empty matrices keep their kernels. Results differ by rounding, as they do between processors.

`RLAIF_ONEDNN=0` leaves PyTorch as it is.
"""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SWITCH = "RLAIF_ONEDNN"
SMALLEST = 1 << 15  # multiplications


@functools.cache
def use() -> bool:
    """Let oneDNN multiply from now on, where that is faster; whether it does. Calling it again changes nothing."""
    if os.environ.get(SWITCH) == "0" or not _faster_here():
        return False
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel")  # which is what is meant
        for name, kernel in (("mm", _mm), ("addmm", _addmm)):
            original = torch.library.get_kernel(f"aten::{name}", "CPU")
            library.impl(name, functools.partial(kernel, original), "CPU", with_keyset=True)
    _libraries.append(library)
    return True


_libraries: list[torch.library.Library] = []  # a registration ends with its library


def _faster_here() -> bool:
    """An AMD processor with AVX-512, and a PyTorch that has the kernel."""
    info = Path("/proc/cpuinfo")
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and info.exists()
        and "AuthenticAMD" in info.read_text(encoding="utf-8")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """a [n, k] @ b [k, m] (+ bias [m])."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")
    return found


def _fits(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN is to multiply a [n, k] and b [k, m]: not where the product is so small that the call is what costs."""
    return a.dtype == b.dtype == torch.float32 and a.shape[1] == b.shape[0] and a.shape[0] * b.numel() >= SMALLEST


def _mm(original: Any, keys: Any, a: Tensor, b: Tensor) -> Tensor:
    if _fits(a, b):
        return _product(a, b, None)
    found: Tensor = original.call_boxed(keys, a, b)
    return found


def _addmm(
    original: Any, keys: Any, bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    if beta == alpha == 1 and bias.dtype == torch.float32 and bias.shape == b.shape[1:] and _fits(a, b):
        return _product(a, b, bias)
    found: Tensor = original.call_boxed(keys, bias, a, b, beta=beta, alpha=alpha)
    return found
