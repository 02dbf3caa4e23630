"""Encodings: coordinates in, features out."""

import torch
from torch import Tensor, nn


class FrequencyEncoding(nn.Module):
    """Positional encoding, interleaved per octave: [x, sin x, cos x, sin 2x, cos 2x, sin 4x, ...].

    NeRF, section 5.1, eq. 4, in the order of the authors' code (and without its factor pi). A
    prefix of the features is therefore a low-pass version of the encoding.

    Args:
        n_octaves: number of frequencies 1, 2, ..., 2^(n_octaves - 1). Zero leaves just x.
    """

    def __init__(self, n_octaves: int) -> None:
        super().__init__()
        self.n_octaves = n_octaves

    @property
    def n_features(self) -> int:
        """Features for a three-dimensional input."""
        return 3 + 6 * self.n_octaves

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3) to (n, n_features), in the dtype of x: half precision loses the high octaves."""
        octaves = 2.0 ** torch.arange(self.n_octaves, device=x.device, dtype=x.dtype)
        scaled = x[:, None, :] * octaves[:, None]  # (n, n_octaves, 3)
        waves = torch.stack([scaled.sin(), scaled.cos()], dim=2)  # (n, n_octaves, 2, 3)
        return torch.cat([x, waves.flatten(1)], dim=1)
