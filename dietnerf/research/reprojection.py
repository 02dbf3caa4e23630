"""Color consistency between photographs at the rendered depth."""

from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.losses.base import AbstractRayLoss, RayLossInput


@final
class Reprojection(AbstractRayLoss):
    """Difference between a training ray's color and what other photographs show at its expected
    depth, a mean over rays and channels: depth without depth supervision (as ICO-GS, 2025, and
    FrugalNeRF, Lin et al. 2025).

    Only the photographs that fit best count, since the point may be occluded in the others. Rays of
    an opacity below one half have no reliable depth and do not count.

    Args:
        weight: factor in the sum of all losses.
        n_best: how many photographs count.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    needs_samples = True

    def __init__(self, weight: float = 0.01, n_best: int = 1, **when: Any) -> None:
        super().__init__(weight, **when)
        if n_best < 1:
            raise UserError(f"Reprojection: n_best must be at least 1, got {n_best}")
        self.n_best = n_best

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        if len(dataset) <= self.n_best:
            raise UserError(
                f"Reprojection: n_best is {self.n_best}, but there are only "
                f"{len(dataset) - 1} other photographs"
            )
        self.cameras = dataset.cameras.to(device)
        images = torch.stack([dataset.image(i, background) for i in range(len(dataset))])
        self.images = images.permute(0, 3, 1, 2).contiguous().to(device)

    def forward(self, step: RayLossInput) -> Tensor:
        rays, rendering = step.rays, step.rendering
        assert rays is not None, "it needs samples along rays"
        ts = rendering.depth / rendering.opacity.clamp(min=1e-3)
        points = rays.rays_o + ts[:, None] * rays.rays_d
        places, is_seen = self.cameras.project(points)  # (n_cameras, n_rays, 2), (.., n_rays)
        is_own = (self.cameras.c2w[:, None, :, 3] - rays.rays_o).norm(dim=-1) < 1e-6
        observed = F.grid_sample(self.images, places[:, None], align_corners=False)[:, :, 0]
        errors = (observed.permute(0, 2, 1) - step.target).abs().mean(dim=-1)
        errors = errors.masked_fill(~is_seen | is_own, torch.inf)
        best = errors.topk(self.n_best, dim=0, largest=False).values
        counts = (rendering.opacity.detach() > 0.5) & best.isfinite()
        return torch.where(counts, best, 0.0).mean()
