"""Inverse transform sampling: the contract of every op, the authors' formulas, and closed forms."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dietnerf.ops import sample_pdf
from dietnerf.ops.sample_pdf import reference
from tests.ops.contract import CHECKS, Op, offsets

N_NEW = 16


def make(counts: list[int], dtype: torch.dtype) -> tuple[Any, ...]:
    edges = torch.rand(sum(counts) + 1).cumsum(0).to(dtype)
    starts, ends = edges[:-1].clone(), edges[1:].clone()
    # Not near 0: a gradient is divided by the probability, and then by it again.
    weights = torch.rand(sum(counts), dtype=dtype) + 0.1
    return starts, ends, weights, offsets(counts), torch.rand(len(counts), N_NEW, dtype=dtype)


OP = Op(
    "sample_pdf",
    sample_pdf,
    reference,
    make,
    wrong=[
        (1, torch.rand(8), "t_ends must be (n_samples,) with n_samples = 9, got (8,)"),
        (2, torch.rand(9, 1), "weights must be (n_samples,), got 2 dims"),
        (4, torch.rand(4), "u must be (n_rays, n_new), got 1 dims"),
        (
            4,
            torch.rand(3, 2),
            "u must be (n_rays, n_new) with n_rays = 4, got (3, 2)",
        ),
    ],
    # A cdf that is off by 1e-7, divided by probabilities down to 2e-3.
    atol=2e-4,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, device: str) -> None:
    check(OP, device)


def by_the_authors(bins: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Theirs, with bins (n_rays, n + 1), weights (n_rays, n), u (n_rays, n_new)."""
    weights = weights + 1e-5
    pdf = weights / torch.sum(weights, -1, keepdim=True)
    cdf = torch.cumsum(pdf, -1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], -1)
    inds = torch.searchsorted(cdf, u.contiguous(), right=True)
    below = torch.max(torch.zeros_like(inds - 1), inds - 1)
    above = torch.min((cdf.shape[-1] - 1) * torch.ones_like(inds), inds)
    cdf_below, cdf_above = cdf.gather(1, below), cdf.gather(1, above)
    denom = cdf_above - cdf_below
    denom = torch.where(denom < 1e-5, torch.ones_like(denom), denom)
    t = (u - cdf_below) / denom
    return bins.gather(1, below) + t * (bins.gather(1, above) - bins.gather(1, below))


@pytest.mark.parametrize("peak", [0.0, 1.0, 1e3])
def test_equals_the_authors_formulas(peak: float, device: str) -> None:
    n_rays, n = 40, 62
    kwargs: Any = {"dtype": torch.float64, "device": device}
    bins = torch.rand(n_rays, n + 1, **kwargs).cumsum(1)
    weights = torch.rand(n_rays, n, **kwargs) * (torch.rand(n_rays, n, **kwargs) < 0.3)
    weights[:, 20] += peak
    u = torch.rand(n_rays, 128, **kwargs)
    u[:, 0], u[:, 1] = 0, 1 - 1e-9  # whether 1 is beyond the last cdf is up to its rounding
    ray_offsets = torch.arange(0, n_rays * n + 1, n, device=device)
    found = sample_pdf(
        bins[:, :-1].flatten(), bins[:, 1:].flatten(), weights.flatten(), ray_offsets, u
    )
    torch.testing.assert_close(found, by_the_authors(bins, weights, u))


def test_equal_weights_give_even_samples(device: str) -> None:
    edges = torch.linspace(2, 6, 9, device=device)
    u = torch.linspace(0, 1, 33, device=device)[None]
    weights = torch.ones(8, device=device)
    ts = sample_pdf(edges[:-1], edges[1:], weights, offsets([8]).to(device), u)
    # Eight float32 additions of 1/8, times a length of 4.
    torch.testing.assert_close(ts, 2 + 4 * u, rtol=0, atol=4e-6)


def test_all_weight_in_one_interval(device: str) -> None:
    edges = torch.linspace(0, 10, 11, device=device)
    weights = torch.zeros(10, device=device)
    weights[3] = 1
    u = torch.rand(1, 1000, device=device)
    ts = sample_pdf(edges[:-1], edges[1:], weights, offsets([10]).to(device), u)
    # The padding of 1e-5 leaves nine intervals together 9e-5 of the samples.
    assert int(((ts >= 3) & (ts <= 4)).sum()) >= 995


def test_rays_without_intervals_give_zero(device: str) -> None:
    starts, ends, weights, ray_offsets, u = OP.inputs([0, 2, 0], device)
    ts = sample_pdf(starts, ends, weights, ray_offsets, u)
    assert (ts[[0, 2]] == 0).all()
    assert ((ts[1] >= starts[0]) & (ts[1] <= ends[1])).all()


def test_gaps_between_intervals_get_no_samples(device: str) -> None:
    starts, ends = (torch.tensor(v, device=device) for v in ([0.0, 5.0], [1.0, 6.0]))
    u = torch.rand(1, 200, device=device)
    ts = sample_pdf(starts, ends, torch.ones(2, device=device), offsets([2]).to(device), u)
    assert (((ts >= 0) & (ts <= 1)) | ((ts >= 5) & (ts <= 6))).all()
