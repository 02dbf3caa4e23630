"""Inverse transform sampling of a piecewise-constant density along each ray, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._ragged import Padding
from dietnerf.ops._shapes import check_shapes, shapes

INPUTS = shapes(
    t_starts="n_samples",
    t_ends="n_samples",
    weights="n_samples",
    ray_offsets="int64 n_rays+1",
    u="n_rays n_new",
)

# Both are the paper authors' constants (`sample_pdf` in their code); kernels: csrc/sample_pdf.h.
WEIGHT_PADDING = 1e-5
MIN_PROBABILITY = 1e-5


def sample_pdf(
    t_starts: Tensor, t_ends: Tensor, weights: Tensor, ray_offsets: Tensor, u: Tensor
) -> Tensor:
    """Draw distances from the density that `weights` give over the intervals of each ray.

    With w'_i = w_i + 1e-5 and p_i = w'_i / sum_k w'_k, u falls into the interval i whose cumulated
    probability c_i <= u < c_i + p_i, and t = t_starts_i + (u - c_i) / p_i * (t_ends_i -
    t_starts_i); where p_i < 1e-5 the division is left out. This is the hierarchical sampling of
    NeRF, section 5.2, with its authors' conventions. A u at or beyond the last c_i + p_i gives the
    last t_end; a ray without intervals gives t = 0.

    Differentiable once in t_starts, t_ends, weights and u; deterministic. NeRF itself detaches the
    weights.

    Args:
        t_starts: where the intervals begin, (n_samples,), ascending within a ray.
        t_ends: where they end, (n_samples,).
        weights: not negative, need not add up to 1, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to n_samples.
        u: numbers in [0, 1], (n_rays, n_new).

    Returns:
        ts: (n_rays, n_new), in the unit of t_starts, in the order of u.
    """
    floats = {"t_starts": t_starts, "t_ends": t_ends, "weights": weights, "u": u}
    check_shapes("sample_pdf", INPUTS, {**floats, "ray_offsets": ray_offsets})
    check_floats("sample_pdf", **floats)
    ts: Tensor = _op(t_starts, t_ends, weights, ray_offsets, u)
    return ts


def reference(
    t_starts: Tensor, t_ends: Tensor, weights: Tensor, ray_offsets: Tensor, u: Tensor
) -> Tensor:
    if len(weights) == 0:
        return u * 0
    padding = Padding(ray_offsets, len(weights))
    mass = padding.pad(weights + WEIGHT_PADDING)  # (n_rays, width)
    is_empty = (padding.counts == 0)[:, None]
    pdf = mass / torch.where(is_empty, 1.0, mass.sum(dim=1, keepdim=True))
    cdf = torch.nn.functional.pad(pdf.cumsum(dim=1), (1, 0))  # (n_rays, width + 1)

    # Filling cannot be hit: its edges lie at infinity.
    is_edge = torch.nn.functional.pad(padding.is_sample, (1, 0), value=True)
    edges = torch.where(is_edge, cdf, torch.inf).detach()
    # Counted, not searched for, which XLA would leave to the host.
    found = (edges[:, None, :] <= u.detach()[:, :, None]).sum(dim=2)  # (n_rays, n_new)
    last = (padding.counts - 1).clamp(min=0)[:, None]
    is_beyond = found > padding.counts[:, None]
    below = torch.minimum((found - 1).clamp(min=0), last)

    probability = pdf.gather(1, below)
    scale = torch.where(probability < MIN_PROBABILITY, 1.0, probability)
    fraction = (u - cdf.gather(1, below)) / scale
    starts = padding.pad(t_starts).gather(1, below)
    ends = padding.pad(t_ends).gather(1, below)
    ts = torch.where(is_beyond, ends, starts + fraction * (ends - starts))
    return torch.where(is_empty, 0.0, ts)


_op = define(
    "sample_pdf",
    reference,
    inputs=INPUTS,
    outputs=shapes(ts="n_rays n_new"),
    like="u",
    differentiable=("t_starts", "t_ends", "weights", "u"),
)
