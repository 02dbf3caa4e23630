"""Colors that depend on the view direction, by real spherical harmonics, as an op."""

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes
from dietnerf.ops.spherical_harmonics import MAX_DEGREE, sh_basis

INPUTS = shapes(base="n 1 3", rest="n n_rest 3", directions="n 3")
OUTPUTS = shapes(colors="n 3")


def eval_sh(degree: int, base: Tensor, rest: Tensor, directions: Tensor) -> Tensor:
    """Colors from coefficients, as 3DGS (Kerbl et al. 2023) has them: 1/2 + sum_k sh_k Y_k, cut off
    below 0, where there is no gradient.

    Differentiable once in base, rest and directions; deterministic.

    Args:
        degree: the highest one that counts, 0 to 3.
        base: coefficients of degree 0, (n, 1, 3).
        rest: coefficients of the degrees behind it, band by band, (n, n_rest, 3) with n_rest at
            least (degree + 1)^2 - 1; those behind have gradient 0.
        directions: from the camera, of any length but 0, (n, 3).

    Returns:
        (n, 3), at least 0.
    """
    floats = {"base": base, "rest": rest, "directions": directions}
    check_shapes("eval_sh", INPUTS, floats)
    check_floats("eval_sh", **floats)
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"eval_sh: degree must be from 0 to {MAX_DEGREE}, got {degree}")
    n_rest = (degree + 1) ** 2 - 1
    if rest.shape[1] < n_rest:
        raise ValueError(
            f"eval_sh: rest must be (n, {n_rest} or more, 3) for degree {degree}, got "
            f"{tuple(rest.shape)}"
        )
    colors: Tensor = _op(degree, base, rest, directions)
    return colors


def reference(degree: int, base: Tensor, rest: Tensor, directions: Tensor) -> Tensor:
    basis = sh_basis(degree, torch.nn.functional.normalize(directions, dim=-1))
    sh = torch.cat([base, rest[:, : basis.shape[1] - 1]], dim=1)
    return ((basis[:, :, None] * sh).sum(dim=1) + 0.5).clamp(min=0)


_op = define(
    "eval_sh",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="base",
    differentiable=("base", "rest", "directions"),
)
