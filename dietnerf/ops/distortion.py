"""How far a ray's weights are spread out: mip-NeRF 360's distortion, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_shapes, check_types
from dietnerf.ops._define import define
from dietnerf.ops._ragged import Padding


def distortion(weights: Tensor, ts: Tensor, deltas: Tensor, ray_offsets: Tensor) -> Tensor:
    """sum_ij w_i w_j |t_i - t_j| + 1/3 sum_i w_i^2 delta_i of each ray (mip-NeRF 360, eq. 15).

    It is smallest where all the weight lies in one place. Kernels take time in proportion to the
    number of samples (as DVGOv2, Sun et al. 2022, section 3).

    Differentiable once in weights, ts and deltas; deterministic.

    Args:
        weights: of the samples in their ray, (n_samples,).
        ts: distances, ascending within a ray, (n_samples,).
        deltas: lengths of the intervals, in the unit of ts, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to at most n_samples; samples behind the last
            ray's have gradient 0.

    Returns:
        (n_rays,), in the unit of ts; 0 for a ray with no samples.
    """
    check_shapes(
        "distortion",
        weights=(weights, ("n_samples",)),
        ts=(ts, ("n_samples",)),
        deltas=(deltas, ("n_samples",)),
        ray_offsets=(ray_offsets, ("n_rays+1",)),
    )
    check_types("distortion", ray_offsets, weights=weights, ts=ts, deltas=deltas)
    found: Tensor = _op(weights, ts, deltas, ray_offsets)
    return found


def reference(weights: Tensor, ts: Tensor, deltas: Tensor, ray_offsets: Tensor) -> Tensor:
    padding = Padding(ray_offsets, len(weights), has_spare=True)
    rows, distances = padding.pad(weights), padding.pad(ts)  # (n_rays, width)
    distances = torch.where(padding.is_sample, distances - distances[:, :1], 0.0)
    mass, moment = rows, rows * distances
    mass_before, moment_before = mass.cumsum(dim=1) - mass, moment.cumsum(dim=1) - moment
    between = (rows * (distances * mass_before - moment_before)).sum(dim=1)
    within = (rows * rows * padding.pad(deltas)).sum(dim=1)
    return 2 * between + within / 3


def _fake(weights: Tensor, ts: Tensor, deltas: Tensor, ray_offsets: Tensor) -> Tensor:
    return weights.new_empty(ray_offsets.shape[0] - 1)


_op = define(
    "distortion",
    reference,
    fake=_fake,
    outputs=("distortion",),
    differentiable=("weights", "ts", "deltas"),
)
