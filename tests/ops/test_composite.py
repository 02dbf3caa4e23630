"""Compositing: the contract of every op, closed forms, early stop, the last delta of 1e10."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import composite
from dietnerf.ops.composite import reference
from tests.ops.contract import CHECKS, Op, offsets


def make(counts: list[int], dtype: torch.dtype) -> tuple[Any, ...]:
    n = sum(counts)
    return (
        torch.rand(n, dtype=dtype) * 3,
        torch.rand(n, 3, dtype=dtype),
        torch.rand(n, dtype=dtype) * 0.1,
        torch.rand(n, dtype=dtype) * 4 + 2,
        offsets(counts),
        0.0,
    )


def four_of_reference(*args: Any) -> tuple[Tensor, ...]:
    return reference(*args)[:4]


OP = Op(
    "composite",
    composite,
    four_of_reference,
    make,
    wrong=[
        (0, torch.rand(9, 1), "sigmas must be (n_samples,), got 2 dims"),
        (1, torch.rand(9, 4), "rgbs must be (n_samples, 3) with n_samples = 9, got (9, 4)"),
        (2, torch.rand(8), "deltas must be (n_samples,) with n_samples = 9, got (8,)"),
        (4, torch.zeros((), dtype=torch.int64), "ray_offsets must be (n_rays+1,), got 0 dims"),
        (3, torch.rand(9), "ts must be torch.float64 like sigmas, got torch.float32"),
        (0, torch.ones(9).half(), "sigmas must be float32 or float64, got torch.float16"),
    ],
    has_spare=True,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, device: str) -> None:
    check(OP, device)


def test_a_constant_slab_stops_one_minus_exp(device: str) -> None:
    sigma, length, n = 0.7, 3.0, 300
    deltas = torch.full((n,), length / n, device=device)
    args = (torch.full((n,), sigma, device=device), torch.ones(n, 3, device=device), deltas)
    ts = torch.linspace(0, length, n, device=device)
    _, rgb, opacity, _ = composite(*args, ts, torch.tensor([0, n], device=device))
    expected = torch.full((1,), 1 - math.exp(-sigma * length), device=device)
    # 300 float32 additions of terms that are right to 1e-7.
    torch.testing.assert_close(opacity, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(rgb, expected.expand(1, 3), rtol=1e-5, atol=0)


@pytest.mark.parametrize("exponent", range(-12, 3))
def test_small_optical_thickness_keeps_its_digits(exponent: int, device: str) -> None:
    tau = torch.tensor([10.0**exponent], device=device)
    rest = torch.ones(1, device=device)
    weights, *_ = composite(tau, rest[:, None].expand(1, 3), rest, rest, offsets([1]).to(device))
    # 1.5 units in the last place of float32: 1 - exp(-tau) would have lost all of them at 1e-8.
    torch.testing.assert_close(weights.double(), -torch.expm1(-tau.double()), rtol=1.8e-7, atol=0)


def test_nothing_behind_the_stop_counts(device: str) -> None:
    sigmas, rgbs, deltas, ts, ray_offsets, _ = OP.inputs([40, 7, 0, 90], device)
    weights, *_ = composite(sigmas, rgbs, deltas * 3, ts, ray_offsets, 0.2)
    full, *_ = composite(sigmas, rgbs, deltas * 3, ts, ray_offsets)
    taus = torch.nn.utils.rnn.pad_sequence((sigmas * deltas * 3).split([40, 7, 90]), True)
    trans = torch.exp(-(taus.cumsum(1) - taus))
    is_kept = torch.cat([row[:n] for row, n in zip(trans >= 0.2, (40, 7, 90), strict=True)])
    assert 0 < int(is_kept.sum()) < len(is_kept)
    torch.testing.assert_close(weights, torch.where(is_kept, full, 0.0))
    grads = torch.autograd.grad(weights.sum(), (sigmas, deltas))
    for grad in grads:
        assert (grad[~is_kept] == 0).all()


@pytest.mark.parametrize("render", [composite, reference], ids=["op", "reference"])
def test_an_endless_last_interval_gives_finite_results(render: Any, device: str) -> None:
    sigmas, rgbs, deltas, ts, ray_offsets, _ = OP.make([64] * 50, torch.float32)
    deltas = deltas.reshape(50, 64)
    deltas[:, -1] = 1e10
    args = [a.to(device).requires_grad_() for a in (sigmas, rgbs, deltas.flatten(), ts)]
    weights, rgb, opacity, depth, *_ = render(*args, ray_offsets.to(device))
    torch.testing.assert_close(opacity, torch.ones_like(opacity))
    grads = torch.autograd.grad(
        weights.square().sum() + rgb.sum() + opacity.sum() + depth.sum(), args
    )
    for value in (weights, rgb, opacity, depth, *grads):
        assert value.isfinite().all()
    # It stops all light whatever its density: no gradient, although multiplied by 1e10.
    assert (grads[0].reshape(50, 64)[:, -1].abs() < 1e-10).all()


def test_weights_alone_carry_gradients(device: str) -> None:
    sigmas, rgbs, deltas, ts, ray_offsets, _ = OP.inputs([5, 20], device)
    grad_weights = torch.rand(25, dtype=torch.float64, device=device)

    def by_hand(sigmas: Tensor) -> Tensor:
        rows = [
            torch.exp(-(tau.cumsum(0) - tau)) * -torch.expm1(-tau)
            for tau in (sigmas * deltas).split([5, 20])
        ]
        return torch.cat(rows)

    found = torch.autograd.grad(
        composite(sigmas, rgbs, deltas, ts, ray_offsets)[0], sigmas, grad_weights
    )
    expected = torch.autograd.grad(by_hand(sigmas), sigmas, grad_weights)
    torch.testing.assert_close(found, expected)


def test_only_what_requires_a_gradient_gets_one(device: str) -> None:
    args = OP.make([5, 20], torch.float64)
    everything = OP.inputs([5, 20], device)
    expected = torch.autograd.grad(composite(*everything)[3].sum(), everything[:4])
    for position in range(4):
        single = [a.detach() if isinstance(a, Tensor) else a for a in everything]
        single[position] = single[position].requires_grad_()
        (found,) = torch.autograd.grad(
            composite(*single)[3].sum(), single[position], materialize_grads=True
        )
        assert torch.equal(found, expected[position])
    assert not composite(*args)[3].requires_grad


def test_a_second_derivative_is_an_error(device: str) -> None:
    sigmas, *rest = OP.inputs([5], device)
    (grad,) = torch.autograd.grad(composite(sigmas, *rest)[2].sum(), sigmas, create_graph=True)
    with pytest.raises(RuntimeError, match="composite_backward"):
        grad.sum().backward()
