"""Encodings: coordinates in, features out."""

import math

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError

MOST_OCTAVES = 32


class FrequencyEncoding(nn.Module):
    """Positional encoding, interleaved per octave: [x, sin x, cos x, sin 2x, cos 2x, sin 4x, ...].

    NeRF, section 5.1, eq. 4, in the order of the authors' code (and without its factor pi). A
    prefix of the features is therefore a low-pass version of the encoding.

    Args:
        n_octaves: number of frequencies 1, 2, ..., 2^(n_octaves - 1). Zero leaves just x.

    `weights` (n_octaves,) are factors of the octaves, 1 unless a schedule changes them.
    """

    weights: Tensor

    def __init__(self, n_octaves: int) -> None:
        super().__init__()
        if not 0 <= n_octaves <= MOST_OCTAVES:
            raise UserError(
                f"FrequencyEncoding: octaves must be 0 to {MOST_OCTAVES}, got {n_octaves}"
            )
        self.n_octaves = n_octaves
        self.register_buffer("weights", torch.ones(n_octaves))

    @property
    def n_features(self) -> int:
        """Features for a three-dimensional input."""
        return 3 + 6 * self.n_octaves

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3) to (n, n_features), in the dtype of x: half precision loses the high octaves."""
        octaves = 2.0 ** torch.arange(self.n_octaves, device=x.device, dtype=x.dtype)
        scaled = x[:, None, :] * octaves[:, None]  # (n, n_octaves, 3)
        waves = torch.stack([scaled.sin(), scaled.cos()], dim=2)  # (n, n_octaves, 2, 3)
        waves = waves * self.weights.to(x.dtype)[:, None, None]
        return torch.cat([x, waves.flatten(1)], dim=1)


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics of a direction, in the order and with the signs of instant-ngp.

    Orthonormal over the unit sphere; band l adds 2 l + 1 features.

    Args:
        degree: number of bands, 1 to 4.

    `weights` (degree,) are factors of the bands, 1 unless a schedule changes them.
    """

    weights: Tensor

    def __init__(self, degree: int) -> None:
        super().__init__()
        if not 1 <= degree <= 4:
            raise UserError(f"SphericalHarmonics: degree must be 1 to 4, got {degree}")
        self.degree = degree
        self.register_buffer("weights", torch.ones(degree))

    @property
    def n_features(self) -> int:
        return self.degree**2

    def forward(self, directions: Tensor) -> Tensor:
        """Unit directions (n, 3) to (n, n_features), in their dtype."""
        x, y, z = directions.unbind(-1)
        bands = (_band_0, _band_1, _band_2, _band_3)[: self.degree]
        weights = self.weights.to(directions.dtype)
        return torch.stack(
            [weights[i] * f for i, band in enumerate(bands) for f in band(x, y, z)], dim=-1
        )


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
