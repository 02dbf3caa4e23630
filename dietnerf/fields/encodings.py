"""Encodings: coordinates in, features out."""

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.ops.spherical_harmonics import sh_bands

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
        bands = sh_bands(self.degree - 1, directions)
        weights = self.weights.to(directions.dtype)
        return torch.stack([weights[i] * f for i, band in enumerate(bands) for f in band], dim=-1)
