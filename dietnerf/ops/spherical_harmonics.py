"""Real spherical harmonics up to degree 3, in plain PyTorch."""

import math

import torch
from torch import Tensor

MAX_DEGREE = 3


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
