"""Colors that depend on the view direction, by real spherical harmonics, in plain PyTorch."""

import math

import torch
from torch import Tensor

MAX_DEGREE = 3


def eval_sh(degree: int, sh: Tensor, directions: Tensor) -> Tensor:
    """Colors from coefficients, as 3DGS (Kerbl et al. 2023) has them: 1/2 + sum_k sh_k Y_k, cut off
    below 0.

    Differentiable in sh and directions.

    Args:
        degree: the highest one that counts, 0 to 3.
        sh: coefficients of each band in order, (n, k, 3) with k at least (degree + 1)^2; those
            behind have gradient 0.
        directions: from the camera, of any length but 0, (n, 3).

    Returns:
        (n, 3), at least 0, in the dtype of sh.
    """
    n_terms = (degree + 1) ** 2
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"eval_sh: degree must be from 0 to {MAX_DEGREE}, got {degree}")
    if sh.dim() != 3 or sh.shape[1] < n_terms or sh.shape[2] != 3:
        raise ValueError(
            f"eval_sh: sh must be (n, {n_terms} or more, 3) for degree {degree}, got "
            f"{tuple(sh.shape)}"
        )
    if directions.shape != (len(sh), 3):
        raise ValueError(
            f"eval_sh: directions must be (n, 3) with n = {len(sh)}, got {tuple(directions.shape)}"
        )
    if degree == 0:
        return (sh[:, 0] * math.sqrt(1 / (4 * math.pi)) + 0.5).clamp(min=0)
    basis = sh_basis(degree, torch.nn.functional.normalize(directions, dim=-1))
    return ((basis[:, :, None] * sh[:, :n_terms]).sum(dim=1) + 0.5).clamp(min=0)


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """Real spherical harmonics of unit directions (n, 3), orthonormal over the sphere, with the
    signs of 3DGS, (n, (degree + 1)^2)."""
    bands = sh_bands(degree, directions)
    return torch.stack([values for band in bands for values in band], dim=-1)


def sh_bands(degree: int, directions: Tensor) -> list[list[Tensor]]:
    """The same, a list of 2 l + 1 values (n,) for each band l up to the degree."""
    x, y, z = directions.unbind(-1)
    return [band(x, y, z) for band in (_band_0, _band_1, _band_2, _band_3)[: degree + 1]]


def _root(numerator: int, denominator: int) -> float:
    return math.sqrt(numerator / (denominator * math.pi))


def _band_0(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    return [torch.full_like(x, _root(1, 4))]


def _band_1(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    scale = _root(3, 4)
    return [-scale * y, scale * z, -scale * x]


def _band_2(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    scale = _root(15, 4)
    return [
        scale * x * y,
        -scale * y * z,
        _root(5, 16) * (3 * z * z - 1),
        -scale * x * z,
        scale / 2 * (x * x - y * y),
    ]


def _band_3(x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
    outer, inner = _root(35, 32), _root(21, 32)
    return [
        outer * y * (y * y - 3 * x * x),
        _root(105, 4) * x * y * z,
        inner * y * (1 - 5 * z * z),
        _root(7, 16) * z * (5 * z * z - 3),
        inner * x * (1 - 5 * z * z),
        _root(105, 16) * z * (x * x - y * y),
        outer * x * (3 * y * y - x * x),
    ]
