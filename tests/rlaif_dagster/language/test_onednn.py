"""Products by oneDNN are those of PyTorch's own kernels up to rounding, whatever layout, and nothing else changes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.language import onednn

SHAPES = [(1, 64, 1000), (16, 576, 192), (240, 576, 16), (33, 7, 1200), (576, 240, 576)]

CPU = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
needs_it = pytest.mark.skipif(
    not ("AuthenticAMD" in CPU and "avx512f" in CPU) or os.environ.get(onednn.SWITCH) == "0",
    reason="for AMD processors with AVX-512, and not with RLAIF_ONEDNN=0",
)


onednn.use()  # for every test here, where it is faster


def exact(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.double() @ b.double()).float()


def matrix(rows: int, columns: int, transposed: bool) -> torch.Tensor:
    return torch.randn(columns, rows).t() if transposed else torch.randn(rows, columns)


@pytest.mark.parametrize(("n", "k", "m"), SHAPES)
@pytest.mark.parametrize(("first", "second"), itertools.product((False, True), repeat=2))
def test_products_of_every_layout(n: int, k: int, m: int, first: bool, second: bool) -> None:
    a, b, bias = matrix(n, k, first), matrix(k, m, second), torch.randn(m)
    torch.testing.assert_close(a @ b, exact(a, b), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(torch.addmm(bias, a, b), exact(a, b) + bias, rtol=1e-5, atol=1e-4)
    scaled = torch.addmm(bias, a, b, beta=0.5, alpha=2.0)
    torch.testing.assert_close(scaled, 0.5 * bias + 2 * exact(a, b), rtol=1e-5, atol=2e-4)


def test_gradients_are_those_of_float64() -> None:
    layer = torch.nn.Linear(96, 640)
    x = torch.randn(64, 96, requires_grad=True)
    layer(x).square().sum().backward()
    double = torch.nn.Linear(96, 640, dtype=torch.float64)
    double.load_state_dict(layer.state_dict())
    y = x.detach().double().requires_grad_()
    double(y).square().sum().backward()
    for mine, right in ((x, y), (layer.weight, double.weight), (layer.bias, double.bias)):
        assert mine.grad is not None
        assert right.grad is not None
        torch.testing.assert_close(mine.grad, right.grad.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_other_types_keep_their_kernels(dtype: torch.dtype) -> None:
    a, b = torch.ones(64, 64, dtype=dtype), torch.ones(64, 64, dtype=dtype)
    assert (a @ b).dtype == dtype
    assert bool((a @ b == 64).all())


def test_empty_and_ill_shaped_matrices_behave_as_before() -> None:
    assert (torch.ones(0, 600) @ torch.ones(600, 600)).shape == (0, 600)
    assert (torch.ones(600, 0) @ torch.ones(0, 600)).abs().sum() == 0
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        torch.ones(600, 600) @ torch.ones(601, 600)


@needs_it
def test_the_kernel_is_in_use() -> None:
    assert onednn.use()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        _ = torch.randn(64, 600) @ torch.randn(600, 600)
    assert "mkldnn::_linear_pointwise" in {event.key for event in profile.key_averages()}


def test_the_switch_leaves_pytorch_alone() -> None:
    code = "from rlaif_dagster.language import onednn; print(onednn.use())"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=CHECKOUT, env=os.environ | {onednn.SWITCH: "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"
