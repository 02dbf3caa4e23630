"""Stratified distances: the contract of every op, and closed forms."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import sample_stratified
from dietnerf.ops.sample_stratified import reference
from tests.ops.contract import CHECKS, Op, offsets


def make_with(lindisp: bool) -> Any:
    def make(counts: list[int], dtype: torch.dtype) -> tuple[Any, ...]:
        near = torch.rand(len(counts), dtype=dtype) + 0.5
        far = near + 1 + torch.rand(len(counts), dtype=dtype)
        return near, far, offsets(counts), torch.rand(sum(counts), dtype=dtype), lindisp

    return make


def raw(near: Tensor, far: Tensor, ray_offsets: Tensor, jitter: Tensor, lindisp: bool) -> Any:
    return near, far, ray_offsets, jitter, len(jitter), lindisp


WRONG = [
    (0, torch.rand(4, 1), "near must be (n_rays,), got 2 dims"),
    (1, torch.rand(3), "far must be (n_rays,) with n_rays = 4, got (3,)"),
    (2, torch.zeros(4).long(), "ray_offsets must be (n_rays+1,) with n_rays = 4, got (4,)"),
    (3, torch.rand(9, 2), "jitter must be (n_samples,), got 2 dims"),
]
OPS = [
    Op("sample_stratified", sample_stratified, reference, make_with(lindisp), WRONG, raw)
    for lindisp in (False, True)
]


@pytest.mark.parametrize("op", OPS, ids=["linear", "lindisp"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, op: Op, device: str) -> None:
    check(op, device)


def test_without_jitter_samples_are_even(device: str) -> None:
    near, far = torch.tensor([2.0, 1.0], device=device), torch.tensor([6.0, 3.0], device=device)
    ts = sample_stratified(near, far, offsets([5, 3]).to(device))
    torch.testing.assert_close(ts, torch.tensor([2.0, 3, 4, 5, 6, 1, 2, 3], device=device))


def test_lindisp_is_even_in_inverse_depth(device: str) -> None:
    near, far = torch.tensor([1.0], device=device), torch.tensor([4.0], device=device)
    ts = sample_stratified(near, far, offsets([4]).to(device), lindisp=True)
    torch.testing.assert_close(1 / ts, torch.tensor([1.0, 0.75, 0.5, 0.25], device=device))


def test_a_single_sample_stands_in_the_middle(device: str) -> None:
    near, far = torch.tensor([2.0], device=device), torch.tensor([6.0], device=device)
    jitter = torch.tensor([0.9], device=device)
    for ts in (
        sample_stratified(near, far, offsets([1]).to(device)),
        sample_stratified(near, far, offsets([1]).to(device), jitter),
    ):
        assert ts.tolist() == [4.0]


@pytest.mark.parametrize("lindisp", [False, True])
def test_equals_the_authors_formulas(lindisp: bool, device: str) -> None:
    n_rays, n = 7, 64
    near = torch.rand(n_rays, 1, dtype=torch.float64, device=device) + 1
    far = near + 3
    s = torch.linspace(0, 1, n, dtype=torch.float64, device=device)
    z = 1 / (1 / near * (1 - s) + 1 / far * s) if lindisp else near * (1 - s) + far * s
    mids = 0.5 * (z[..., 1:] + z[..., :-1])
    upper, lower = torch.cat([mids, z[..., -1:]], -1), torch.cat([z[..., :1], mids], -1)
    jitter = torch.rand(n_rays, n, dtype=torch.float64, device=device)
    found = sample_stratified(
        near[:, 0], far[:, 0], offsets([n] * n_rays).to(device), jitter.flatten(), lindisp
    )
    torch.testing.assert_close(found.reshape(n_rays, n), lower + (upper - lower) * jitter)
    assert (found.reshape(n_rays, n).diff(dim=1) >= 0).all()


def test_gradients_without_jitter(device: str) -> None:
    for op in OPS:
        near, far, ray_offsets, _, lindisp = op.inputs([3, 0, 1, 5], device)
        assert torch.autograd.gradcheck(
            lambda near, far, offs=ray_offsets, lindisp=lindisp: sample_stratified(
                near, far, offs, None, lindisp
            ),
            (near, far),
        )
