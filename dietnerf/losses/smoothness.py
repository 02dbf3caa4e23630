"""What nobody photographed should at least be smooth."""

from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.scene import Scene
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays, Samples
from dietnerf.geometry.viewpoints import AbstractViewpoints, SphereCap
from dietnerf.losses.base import AbstractSceneLoss, Moment
from dietnerf.randomness import moved
from dietnerf.renderer import render_rays


@final
class DepthSmoothness(AbstractSceneLoss):
    """Squared differences of depth between neighbouring pixels in small patches of views that
    nobody photographed (RegNeRF, Niemeyer et al. 2022, section 4.1, eq. 4), the mean over pixels.

    Depths are relative to the way from near to far, and differences count by how much light both
    pixels stop, so that an object's outline costs nothing.

    Args:
        weight: factor in the sum of all losses.
        viewpoints: where the scene is rendered from.
        n_patches: patches in a step.
        patch: pixels along each edge of a patch.
        spacing: pixels from one of a patch to the next.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self,
        weight: float = 0.1,
        viewpoints: AbstractViewpoints | None = None,
        n_patches: int = 8,
        patch: int = 8,
        spacing: int = 1,
        **when: Any,
    ) -> None:
        super().__init__(weight, **when)
        if n_patches < 1 or patch < 2 or spacing < 1:
            raise UserError(
                f"DepthSmoothness: n_patches is {n_patches}, patch {patch}, spacing {spacing}; "
                "they must be at least 1, 2 and 1"
            )
        self.viewpoints = viewpoints or SphereCap()
        self.n_patches = n_patches
        self.patch = patch
        self.spacing = spacing
        self.scalars = {}

    @property
    def name(self) -> str:
        return "depth_smoothness"

    def prepare(self, scene: Scene, background: Tensor, device: torch.device) -> None:
        self.viewpoints.prepare(scene.cameras)

    def forward(self, moment: Moment) -> Tensor:
        cameras = self.viewpoints.draw(self.n_patches, moment.generator)
        side = self.patch * self.spacing
        patches = []
        for i in range(self.n_patches):
            left, top = (
                int(torch.randint(max(1, size - side + 1), (1,), generator=moment.generator))
                for size in (cameras.width, cameras.height)
            )
            patches.append(cameras[[i]].windowed(left, top, side, self.patch).image_rays(0))
        rays = Rays.cat(patches).to(moment.background.device)
        jitter = moved(moment.generator, moment.background.device)
        rendering, _ = render_rays(rays, moment.field, moment.sampler, moment.background, jitter)
        shape = (self.n_patches, self.patch, self.patch)
        opacity = rendering.opacity.view(shape)
        depth = rendering.depth / rendering.opacity.clamp(min=1e-3)
        depth = ((depth - rays.near) / (rays.far - rays.near)).view(shape)
        weight = opacity.detach()
        down = depth.diff(dim=1).square() * weight[:, 1:] * weight[:, :-1]
        right = depth.diff(dim=2).square() * weight[:, :, 1:] * weight[:, :, :-1]
        return down.mean() + right.mean()


@final
class DensitySmoothness(AbstractSceneLoss):
    """Total variation at random points: how much the share of light that is stopped in a short way
    changes over that way, the mean over points of its absolute value.

    A hash grid's fine levels have no neighbourhood in which a table could be smoothed, so what is
    compared is the field itself. Differences are of 1 - exp(-sigma * way), not of sigma: inside of
    a solid any density will do.

    Args:
        weight: factor in the sum of all losses.
        n_rays: rays from random viewpoints, on whose samples points are taken.
        way: from a point to the one that it is compared with, as a share of the way from near to
            far.
        viewpoints: where those rays come from.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self,
        weight: float = 1e-3,
        n_rays: int = 128,
        way: float = 0.005,
        viewpoints: AbstractViewpoints | None = None,
        **when: Any,
    ) -> None:
        super().__init__(weight, **when)
        if n_rays < 1 or not way > 0:
            raise UserError(
                f"DensitySmoothness: n_rays is {n_rays}, way {way}; they must be at least 1 and "
                "above 0"
            )
        self.n_rays = n_rays
        self.way = way
        self.viewpoints = viewpoints or SphereCap()
        self.scalars = {}

    @property
    def name(self) -> str:
        return "density_smoothness"

    def prepare(self, scene: Scene, background: Tensor, device: torch.device) -> None:
        self.viewpoints.prepare(scene.cameras)

    def forward(self, moment: Moment) -> Tensor:
        device = moment.background.device
        cameras = self.viewpoints.draw(1, moment.generator)
        zeros = torch.zeros(self.n_rays, dtype=torch.int64)
        columns, rows = (
            torch.randint(size, (self.n_rays,), generator=moment.generator)
            for size in (cameras.width, cameras.height)
        )
        rays = cameras.rays(zeros, columns, rows).to(device)
        jitter = moved(moment.generator, device)
        with torch.no_grad():
            samples, _ = moment.sampler.sample(rays, moment.field, jitter)
        if len(samples) == 0:
            return moment.background.new_zeros(())
        way = self.way * float((rays.far - rays.near).mean())
        turn = torch.randn(len(rays), 3, generator=moment.generator).to(device)
        shift = way * torch.nn.functional.normalize(turn, dim=1)
        shifted = Rays(rays.rays_o + shift, rays.rays_d, rays.near, rays.far)
        there = Samples(shifted, samples.ts, samples.deltas, samples.ray_offsets)
        here, beside = (-torch.expm1(-moment.field.density(at)[0] * way) for at in (samples, there))
        return (here - beside).abs().mean()
