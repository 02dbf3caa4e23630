"""Correction of exposure and white balance of photographs, learned with the field."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError

FEWEST_PIXELS = 16  # needed to fit the correction of an image


class ExposureCorrection(nn.Module):
    """A gain and an offset of each color channel for every training photo, learned with the field.

    A color c of the field appears in a photo as exp(log_gain) * c + offset. Corrections are
    relative to their mean over all photos, so that images are rendered with the mean exposure,
    without any correction.

    Args:
        rate: learning rate, as a share of the field's.
        decay: decoupled weight decay of the corrections, per learning rate.
    """

    log_gains: nn.Parameter  # (n, 3)
    offsets: nn.Parameter  # (n, 3)

    def __init__(self, rate: float = 0.1, decay: float = 0.1) -> None:
        super().__init__()
        if not (rate > 0 and decay >= 0):
            raise UserError(
                f"exposure: rate is {rate}, decay {decay}; they must be above 0 and at least 0"
            )
        self.rate, self.decay = rate, decay
        for name in ("log_gains", "offsets"):
            self.register_parameter(name, nn.Parameter(torch.zeros(0, 3)))

    def prepare(self, n_photos: int) -> None:
        """Reset the corrections."""
        for parameter in (self.log_gains, self.offsets):
            parameter.data = torch.zeros(n_photos, 3, device=parameter.device)

    def forward(self, rgb: Tensor, ids: Tensor) -> Tensor:
        """Colors (n_rays, 3) of the field as they would appear in photos `ids` (n_rays,)."""
        gains = (self.log_gains - self.log_gains.mean(dim=0)).exp()
        offsets = self.offsets - self.offsets.mean(dim=0)
        return gains[ids] * rgb + offsets[ids]

    def _load_from_state_dict(self, saved: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # The number of photos is known from the checkpoint only.
        for name in ("log_gains", "offsets"):
            own, found = getattr(self, name), saved.get(prefix + name)
            if found is not None and len(own) == 0:
                own.data = torch.zeros_like(found, device=own.device)
        super()._load_from_state_dict(saved, prefix, *rest)


def fitted_on_left(rgb: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """An image with the gain and offset of each channel that fit its left half to a photo's, so
    that the right half can be scored without having been fitted.

    Args:
        rgb, target: (height, width, 3) in [0, 1].
        mask: which pixels count, bool, (height, width), or None where all do.

    Returns:
        (height, width, 3); unchanged where too few pixels count.
    """
    counts = torch.ones_like(rgb[..., 0], dtype=torch.bool) if mask is None else mask.clone()
    counts[:, rgb.shape[1] // 2 :] = False
    if counts.sum() < FEWEST_PIXELS:
        return rgb
    rendered, photographed = rgb[counts].double(), target[counts].double()
    middle, aim = rendered.mean(dim=0), photographed.mean(dim=0)
    variance = (rendered - middle).square().mean(dim=0)
    covariance = ((rendered - middle) * (photographed - aim)).mean(dim=0)
    gains = covariance / variance.clamp(min=torch.finfo(torch.float32).eps)
    return ((rgb - middle) * gains + aim).to(rgb.dtype)
