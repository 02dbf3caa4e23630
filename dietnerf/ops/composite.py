"""Alpha compositing along rays: the volume rendering quadrature of NeRF, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._ragged import Padding
from dietnerf.ops._shapes import check_shapes, shapes

INPUTS = shapes(
    sigmas="n_samples",
    rgbs="n_samples 3",
    deltas="n_samples",
    ts="n_samples",
    ray_offsets="int64 n_rays+1",
)
OUTPUTS = shapes(
    weights="n_samples", rgb="n_rays 3", opacity="n_rays", depth="n_rays", trans="n_rays"
)


def composite(
    sigmas: Tensor,
    rgbs: Tensor,
    deltas: Tensor,
    ts: Tensor,
    ray_offsets: Tensor,
    early_stop: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite samples front to back, without a background.

    With the optical thickness tau_i = sigma_i * delta_i, a sample absorbs alpha_i = 1 - exp(-tau_i)
    of the light that reaches it, T_i = exp(-sum_{k<i} tau_k), and its weight is w_i = T_i * alpha_i
    (NeRF, eq. 3). The ray's color is sum_i w_i c_i, its opacity sum_i w_i, its depth sum_i w_i
    t_i. A sample with T_i < `early_stop` gets weight and gradient 0.

    Differentiable once in sigmas, rgbs, deltas and ts; deterministic.

    Args:
        sigmas: densities per scene unit, >= 0, (n_samples,).
        rgbs: colors, (n_samples, 3).
        deltas: lengths of the intervals in scene units, (n_samples,); the last one of a ray may be
            1e10.
        ts: distances along the rays, (n_samples,), in the unit that the depth shall have.
        ray_offsets: int64, (n_rays + 1,), from 0 to at most n_samples; ray r owns [ray_offsets[r],
            ray_offsets[r + 1]), and samples behind the last ray's have weight and gradient 0.
        early_stop: transmittance below which the samples behind are skipped.

    Returns:
        weights (n_samples,), rgb (n_rays, 3), opacity (n_rays,), depth (n_rays,); zeros for a ray
        with no samples.
    """
    floats = {"sigmas": sigmas, "rgbs": rgbs, "deltas": deltas, "ts": ts}
    check_shapes("composite", INPUTS, {**floats, "ray_offsets": ray_offsets})
    check_floats("composite", **floats)
    weights, rgb, opacity, depth, _ = _op(sigmas, rgbs, deltas, ts, ray_offsets, early_stop)
    return weights, rgb, opacity, depth


def reference(
    sigmas: Tensor,
    rgbs: Tensor,
    deltas: Tensor,
    ts: Tensor,
    ray_offsets: Tensor,
    early_stop: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Also returns `trans`, (n_rays,): the transmittance behind the samples not skipped."""
    padding = Padding(ray_offsets, len(sigmas), has_spare=True)
    taus = padding.pad(sigmas * deltas)  # (n_rays, width)
    # The sum of the taus in front, not the inclusive one minus tau: 1e10 - 1e10 would lose them.
    taus_before = torch.nn.functional.pad(taus.cumsum(dim=1), (1, 0))[:, :-1]
    trans = torch.exp(-taus_before)
    counts = trans >= early_stop
    weights = torch.where(counts, trans * -torch.expm1(-taus), 0.0)
    trans_left = torch.exp(-torch.where(counts, taus, 0.0).sum(dim=1))
    rgb = (weights[:, :, None] * padding.pad(rgbs)).sum(dim=1)
    depth = (weights * padding.pad(ts)).sum(dim=1)
    return padding.flatten(weights), rgb, weights.sum(dim=1), depth, trans_left


_op = define(
    "composite",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="sigmas",
    differentiable=("sigmas", "rgbs", "deltas", "ts"),
    saved=("weights", "trans"),
)
