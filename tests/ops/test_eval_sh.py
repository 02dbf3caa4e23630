"""Colors by spherical harmonics: the contract of every op, the signs of 3DGS, the cut at 0."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import eval_sh
from dietnerf.ops.eval_sh import reference
from tests.ops.contract import CHECKS, Op

DEGREES = (0, 1, 2, 3)


def by_3dgs(sh: Tensor, directions: Tensor) -> Tensor:
    """With the constants and in the order of 3DGS' files, (n, 16, 3) to (n, 3)."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    factors = [
        0.28209479177387814 * torch.ones_like(x),
        *(-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x),
        *(1.0925484305920792 * x * y, -1.0925484305920792 * y * z),
        0.31539156525252005 * (2 * zz - xx - yy),
        *(-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)),
        *(-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z),
        -0.4570457994644658 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
        -0.4570457994644658 * x * (4 * zz - xx - yy),
        *(1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy)),
    ]
    return sum(f[:, None] * sh[:, k] for k, f in enumerate(factors)) + 0.5


def make_with(degree: int, n_rest: int) -> Callable[..., tuple[int, Tensor, Tensor, Tensor]]:
    def make(counts: list[int], dtype: torch.dtype) -> tuple[int, Tensor, Tensor, Tensor]:
        """Some of the colors are cut off."""
        n = sum(counts)
        base, rest = torch.randn(n, 1, 3, dtype=dtype), 0.5 * torch.randn(n, n_rest, 3, dtype=dtype)
        return degree, base, rest, torch.randn(n, 3, dtype=dtype)

    return make


WRONG = [
    (0, 4, "degree must be from 0 to 3, got 4"),
    (0, -1, "degree must be from 0 to 3, got -1"),
    (1, torch.rand(9, 3), "base must be (n, 1, 3), got 2 dims"),
    (1, torch.rand(9, 2, 3), "base must be (n, 1, 3) with n = 9, got (9, 2, 3)"),
    (2, torch.rand(8, 15, 3), "rest must be (n, n_rest, 3) with n = 9, got (8, 15, 3)"),
    (3, torch.rand(4, 3), "directions must be (n, 3) with n = 9, got (4, 3)"),
    (3, torch.rand(9, 3), "directions must be torch.float64 like base, got torch.float32"),
]
TOO_FEW = "rest must be (n, 8 or more, 3) for degree 2, got (9, 7, 3)"
OPS = [
    Op("eval_sh", eval_sh, reference, make_with(0, 0), WRONG[:2], has_offsets=False),
    Op("eval_sh", eval_sh, reference, make_with(1, 8), WRONG, has_offsets=False),
    Op(
        "eval_sh",
        eval_sh,
        reference,
        make_with(2, 8),
        [(2, torch.rand(9, 7, 3).double(), TOO_FEW)],
        has_offsets=False,
    ),
    Op("eval_sh", eval_sh, reference, make_with(3, 15), WRONG, has_offsets=False),
]


@pytest.mark.parametrize("op", OPS, ids=["0", "1 of 2", "2", "3"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, op: Op, device: str) -> None:
    check(op, device)


@pytest.mark.parametrize("degree", DEGREES)
def test_has_the_convention_of_3dgs(degree: int, device: str) -> None:
    sh = torch.randn(50, 16, 3, dtype=torch.float64, device=device)
    directions = torch.randn(50, 3, dtype=torch.float64, device=device)
    shown = sh.clone()
    shown[:, (degree + 1) ** 2 :] = 0
    expected = by_3dgs(shown, torch.nn.functional.normalize(directions, dim=-1)).clamp(min=0)
    assert (expected == 0).any()
    torch.testing.assert_close(eval_sh(degree, sh[:, :1], sh[:, 1:], directions), expected)


def gradients_of(degree: int, *inputs: Tensor) -> tuple[Tensor, ...]:
    base, rest, directions = (v.clone().requires_grad_() for v in inputs)
    colors = eval_sh(degree, base, rest, directions)
    return torch.autograd.grad(colors.sum(), [base, rest, directions])


def test_coefficients_behind_the_degree_have_no_gradient(device: str) -> None:
    inputs = [v.to(device) for v in make_with(1, 15)([30], torch.float32)[1:]]
    _, grad_rest, _ = gradients_of(1, *inputs)
    assert grad_rest[:, :3].any() and not grad_rest[:, 3:].any()


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_a_color_below_zero_has_no_gradient(degree: int, scale: float, device: str) -> None:
    base = torch.full((5, 1, 3), 3 * scale, device=device)
    rest, directions = torch.zeros(5, 15, 3, device=device), torch.randn(5, 3, device=device)
    grad_base, *_ = gradients_of(degree, base, rest, directions)
    assert bool((grad_base != 0).all()) == (scale > 0)


@pytest.mark.parametrize("degree", DEGREES)
def test_black_can_brighten(degree: int, device: str) -> None:
    """Its base is rounded; a sum that is less than 0 by that would have no gradient."""
    black = (torch.zeros(20, 1, 3, device=device) - 0.5) / math.sqrt(1 / (4 * math.pi))
    rest, directions = torch.zeros(20, 15, 3, device=device), torch.randn(20, 3, device=device)
    assert eval_sh(degree, black, rest, directions).abs().max() < 1e-6
    grad_base, *_ = gradients_of(degree, black, rest, directions)
    assert (grad_base > 0).all()


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("number", [0.0, 1e-30, math.nan, math.inf])
def test_directions_without_a_length_give_what_the_reference_does(
    degree: int, number: float, device: str
) -> None:
    _, *inputs = make_with(degree, 15)([3], torch.float32)
    inputs = [v.to(device) for v in inputs]
    inputs[2][1] = number
    found, expected = eval_sh(degree, *inputs), reference(degree, *inputs)
    torch.testing.assert_close(found, expected, equal_nan=True)
    leaves = [v.clone().requires_grad_() for v in inputs]
    expected = torch.autograd.grad(
        reference(degree, *leaves).sum(), leaves, allow_unused=True, materialize_grads=True
    )
    for got, target in zip(gradients_of(degree, *inputs), expected, strict=True):
        torch.testing.assert_close(got, target, equal_nan=True)
