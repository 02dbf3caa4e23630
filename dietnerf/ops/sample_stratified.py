"""Stratified distances between near and far, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._ragged import Padding
from dietnerf.ops._shapes import check_shapes, shapes

INPUTS = shapes(near="n_rays", far="n_rays", ray_offsets="int64 n_rays+1", jitter="n_samples")


def sample_stratified(
    near: Tensor,
    far: Tensor,
    ray_offsets: Tensor,
    jitter: Tensor | None = None,
    lindisp: bool = False,
) -> Tensor:
    """Distribute each ray's samples between its near and far, one in each cell.

    The k-th of m samples is at s = k / (m - 1), or 0.5 where m = 1: z_k = near (1 - s) + far s,
    or with `lindisp` z_k = 1 / ((1 - s) / near + s / far), evenly in inverse depth. Without jitter
    z is the result. With it, a cell reaches from the middle between z_{k-1} and z_k (or z_0) to the
    middle between z_k and z_{k+1} (or z_{m-1}), and t_k = lower + (upper - lower) * jitter_k (NeRF,
    eq. 2, with its authors' cells).

    Differentiable once in near, far and jitter; deterministic.

    Args:
        near: where the samples begin, (n_rays,), in the unit of ts; > 0 with
            `lindisp`.
        far: where they end, (n_rays,).
        ray_offsets: int64, (n_rays + 1,), from 0 to n_samples.
        jitter: in [0, 1), (n_samples,), or None; without it n_samples is read from the device.
        lindisp: even in inverse depth instead of depth.

    Returns:
        ts: (n_samples,), ascending within a ray.
    """
    floats = {"near": near, "far": far, "jitter": jitter}
    check_shapes("sample_stratified", INPUTS, {**floats, "ray_offsets": ray_offsets})
    check_floats("sample_stratified", **{k: v for k, v in floats.items() if v is not None})
    n_samples = int(ray_offsets[-1]) if jitter is None else len(jitter)
    ts: Tensor = _op(near, far, ray_offsets, jitter, n_samples, lindisp)
    return ts


def reference(
    near: Tensor,
    far: Tensor,
    ray_offsets: Tensor,
    jitter: Tensor | None,
    n_samples: int,
    lindisp: bool,
) -> Tensor:
    padding = Padding(ray_offsets, n_samples)
    slots = torch.arange(padding.width, dtype=near.dtype, device=near.device)
    is_single = (padding.counts == 1)[:, None]
    s = torch.where(is_single, 0.5, slots / (padding.counts - 1).clamp(min=1)[:, None])
    if lindisp:
        zs = 1 / ((1 - s) / near[:, None] + s / far[:, None])  # (n_rays, width)
    else:
        zs = near[:, None] * (1 - s) + far[:, None] * s
    if jitter is None:
        return padding.flatten(zs)
    mids = (zs[:, 1:] + zs[:, :-1]) / 2
    lower = torch.cat([zs[:, :1], mids], dim=1)
    is_last = slots == (padding.counts - 1)[:, None]
    upper = torch.where(is_last, zs, torch.cat([mids, zs[:, -1:]], dim=1))
    return padding.flatten(lower + (upper - lower) * padding.pad(jitter))


_op = define(
    "sample_stratified",
    reference,
    inputs=INPUTS,
    outputs=shapes(ts="n_samples"),
    like="near",
    differentiable=("near", "far", "jitter"),
)
