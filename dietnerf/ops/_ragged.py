"""Ragged samples as a padded matrix, for the references: row r holds ray r, then padding."""

import torch
from torch import Tensor


class Padding:
    """Moves values between flat `(n_samples, ...)` and padded `(n_rays, width, ...)`.

    A scan along a row never crosses into another ray, so a last delta of 1e10 does not cost the
    next ray its precision.

    With `has_spare` there may be samples behind the last ray's, which belong to none: `pad` skips
    them, and `flatten` sets them to zero.
    """

    _is_even = False

    def __init__(self, ray_offsets: Tensor, n_samples: int, has_spare: bool = False) -> None:
        self.counts = ray_offsets.diff()  # (n_rays,)
        self._n_spare = 0
        if ray_offsets.device.type == "xla":  # where sizes must be known before any value is
            self._assume_even(len(self.counts), n_samples)
            return
        self._n_spare = n_samples - int(ray_offsets[-1])
        is_complete = self._n_spare >= 0 if has_spare else self._n_spare == 0
        if ray_offsets[0] != 0 or not is_complete or bool((self.counts < 0).any()):
            most = "at most " if has_spare else ""
            raise ValueError(f"ray_offsets must ascend from 0 to {most}n_samples = {n_samples}")
        self.width = int(self.counts.max()) if len(self.counts) else 0
        slots = torch.arange(self.width, device=ray_offsets.device)
        self.is_sample = slots < self.counts[:, None]  # (n_rays, width)
        self._index = (ray_offsets[:-1, None] + slots).clamp(max=max(n_samples - 1, 0))

    def _assume_even(self, n_rays: int, n_samples: int) -> None:
        """For the same number of samples on every ray, which is assumed, not checked."""
        self.width = n_samples // max(n_rays, 1)
        shape, device = (n_rays, self.width), self.counts.device
        self.is_sample = torch.ones(shape, dtype=torch.bool, device=device)
        self._index = torch.arange(n_rays * self.width, device=device).view(shape)
        self._is_even = True

    def pad(self, values: Tensor, fill: float = 0.0) -> Tensor:
        is_sample = self.is_sample.reshape(self.is_sample.shape + (1,) * (values.dim() - 1))
        return torch.where(is_sample, values[self._index], fill)

    def flatten(self, rows: Tensor) -> Tensor:
        if self._is_even:
            return rows.flatten(0, 1)
        flat = rows[self.is_sample]
        if self._n_spare == 0:
            return flat
        return torch.cat([flat, flat.new_zeros(self._n_spare, *flat.shape[1:])])
