"""Distortion: the contract of every op, the double sum it stands for, and closed forms."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from dietnerf.ops import distortion
from dietnerf.ops.distortion import reference
from tests.ops.contract import CHECKS, Op, offsets


def make(counts: list[int], dtype: torch.dtype) -> tuple[Any, ...]:
    deltas = torch.rand(sum(counts), dtype=dtype) * 0.1 + 0.01
    ts = torch.cat(
        [2 + part.cumsum(0) for part in deltas.split(counts)] or [deltas]  # ascending
    )
    return torch.rand(sum(counts), dtype=dtype) / 20, ts, deltas, offsets(counts)


OP = Op(
    "distortion",
    distortion,
    reference,
    make,
    [
        (0, torch.rand(9, 1), "weights must be (n_samples,), got 2 dims"),
        (1, torch.rand(8), "ts must be (n_samples,) with n_samples = 9, got (8,)"),
        (2, torch.rand(8), "deltas must be (n_samples,) with n_samples = 9, got (8,)"),
    ],
    has_spare=True,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Any, device: str) -> None:
    check(OP, device)


def test_is_the_double_sum(device: str) -> None:
    weights, ts, deltas, ray_offsets = (x.detach() for x in OP.inputs([40, 0, 1, 25], device))
    parts = []
    for begin, end in pairwise(ray_offsets):
        w, t, d = weights[begin:end], ts[begin:end], deltas[begin:end]
        pairs = w[:, None] * w * (t[:, None] - t).abs()
        parts.append(pairs.sum() + (w * w * d).sum() / 3)
    torch.testing.assert_close(distortion(weights, ts, deltas, ray_offsets), torch.stack(parts))


def test_two_surfaces_cost_their_distance(device: str) -> None:
    weights, ts = torch.tensor([0.5, 0.5], device=device), torch.tensor([1.0, 4.0], device=device)
    found = distortion(weights, ts, torch.zeros(2, device=device), offsets([2]).to(device))
    torch.testing.assert_close(found, torch.tensor([2 * 0.25 * 3], device=device))


def test_far_from_the_origin_digits_stay(device: str) -> None:
    weights, ts, deltas, ray_offsets = (
        x.detach() for x in OP.inputs([64] * 4, device, torch.float32)
    )
    near = distortion(weights, ts, deltas, ray_offsets)
    far = distortion(weights, ts + 1024, deltas, ray_offsets)
    torch.testing.assert_close(far, near, rtol=1e-3, atol=0)
