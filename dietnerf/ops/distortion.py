"""The distortion of the weights along rays (mip-NeRF 360), as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._ragged import Padding
from dietnerf.ops._shapes import check_shapes, shapes

INPUTS = shapes(
    weights="n_samples", ts="n_samples", deltas="n_samples", ray_offsets="int64 n_rays+1"
)


def distortion(weights: Tensor, ts: Tensor, deltas: Tensor, ray_offsets: Tensor) -> Tensor:
    """sum_ij w_i w_j |t_i - t_j| + 1/3 sum_i w_i^2 delta_i of each ray (mip-NeRF 360, eq. 15).

    It is smallest where all the weight is concentrated in one interval. Kernels take time linear in
    the number of samples (as DVGOv2, Sun et al. 2022, section 3).

    Differentiable once in weights, ts and deltas; deterministic.

    Args:
        weights: of the samples along their ray, (n_samples,).
        ts: distances, ascending within a ray, (n_samples,).
        deltas: lengths of the intervals, in the unit of ts, (n_samples,).
        ray_offsets: int64, (n_rays + 1,), from 0 to at most n_samples; samples behind the last
            ray's have gradient 0.

    Returns:
        (n_rays,), in the unit of ts; 0 for a ray with no samples.
    """
    floats = {"weights": weights, "ts": ts, "deltas": deltas}
    check_shapes("distortion", INPUTS, {**floats, "ray_offsets": ray_offsets})
    check_floats("distortion", **floats)
    per_ray: Tensor = _op(weights, ts, deltas, ray_offsets)
    return per_ray


def reference(weights: Tensor, ts: Tensor, deltas: Tensor, ray_offsets: Tensor) -> Tensor:
    padding = Padding(ray_offsets, len(weights), has_spare=True)
    rows, distances = padding.pad(weights), padding.pad(ts)  # (n_rays, width)
    distances = torch.where(padding.is_sample, distances - distances[:, :1], 0.0)
    mass, moment = rows, rows * distances
    mass_before, moment_before = mass.cumsum(dim=1) - mass, moment.cumsum(dim=1) - moment
    between = (rows * (distances * mass_before - moment_before)).sum(dim=1)
    within = (rows * rows * padding.pad(deltas)).sum(dim=1)
    return 2 * between + within / 3


_op = define(
    "distortion",
    reference,
    inputs=INPUTS,
    outputs=shapes(distortion="n_rays"),
    like="weights",
    differentiable=("weights", "ts", "deltas"),
)
