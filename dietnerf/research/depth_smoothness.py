"""Smoothness of depth in views without a photograph."""

from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays
from dietnerf.geometry.viewpoints import AbstractViewpoints, SphereCap
from dietnerf.losses.base import AbstractRegularizer, SceneContext
from dietnerf.randomness import moved
from dietnerf.renderer import render_rays


@final
class DepthSmoothness(AbstractRegularizer):
    """Squared differences of depth between neighboring pixels in small patches of views without a
    photograph (RegNeRF, Niemeyer et al. 2022, section 4.1, eq. 4), the mean over pixels.

    Depths are relative to the distance from near to far, and differences are weighted by the
    opacities of both pixels, so that an object's outline costs nothing.

    Args:
        weight: factor in the sum of all losses.
        viewpoints: where the scene is rendered from.
        n_patches: patches in a step.
        patch: pixels along each edge of a patch.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self,
        weight: float = 0.1,
        viewpoints: AbstractViewpoints | None = None,
        n_patches: int = 8,
        patch: int = 8,
        **when: Any,
    ) -> None:
        super().__init__(weight, **when)
        if n_patches < 1 or patch < 2:
            raise UserError(
                f"DepthSmoothness: n_patches is {n_patches} and patch {patch}; they must be at "
                "least 1 and 2"
            )
        self.viewpoints = viewpoints or SphereCap()
        self.n_patches = n_patches
        self.patch = patch

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        self.viewpoints.prepare(dataset.cameras)

    def forward(self, context: SceneContext) -> Tensor:
        cameras = self.viewpoints.draw(self.n_patches, context.generator)
        patches = []
        for i in range(self.n_patches):
            left, top = (
                int(torch.randint(max(1, size - self.patch + 1), (1,), generator=context.generator))
                for size in (cameras.width, cameras.height)
            )
            patches.append(cameras[[i]].windowed(left, top, self.patch, self.patch).image_rays(0))
        rays = Rays.cat(patches).to(context.background.device)
        jitter = moved(context.generator, context.background.device)
        rendering, _ = render_rays(rays, context.field, context.sampler, context.background, jitter)
        shape = (self.n_patches, self.patch, self.patch)
        opacity = rendering.opacity.view(shape)
        depth = rendering.depth / rendering.opacity.clamp(min=1e-3)
        depth = ((depth - rays.near) / (rays.far - rays.near)).view(shape)
        weight = opacity.detach()
        down = depth.diff(dim=1).square() * weight[:, 1:] * weight[:, :-1]
        right = depth.diff(dim=2).square() * weight[:, :, 1:] * weight[:, :, :-1]
        return down.mean() + right.mean()
