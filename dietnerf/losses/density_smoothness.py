"""Smoothness of density: space is empty or solid almost everywhere."""

from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.fields.base import queried
from dietnerf.geometry.rays import Rays, Samples
from dietnerf.geometry.viewpoints import AbstractViewpoints, SphereCap
from dietnerf.losses.base import AbstractRegularizer, SceneContext
from dietnerf.randomness import moved


@final
class DensitySmoothness(AbstractRegularizer):
    """Total variation at random points: the absolute change of the opacity of a short segment from
    one point to another that distance away, the mean over points.

    A hash grid's fine levels have no neighborhood in which a table could be smoothed, so what is
    compared is the field itself. Differences are of 1 - exp(-sigma * offset), not of sigma: inside
    a solid any large density renders the same.

    Args:
        weight: factor in the sum of all losses.
        n_rays: rays from random viewpoints, on whose samples points are taken.
        offset: distance between the two points, as a fraction of the distance from near to far.
        viewpoints: where those rays come from.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self,
        weight: float = 1e-3,
        n_rays: int = 128,
        offset: float = 0.005,
        viewpoints: AbstractViewpoints | None = None,
        **when: Any,
    ) -> None:
        super().__init__(weight, **when)
        if n_rays < 1 or not offset > 0:
            raise UserError(
                f"DensitySmoothness: n_rays is {n_rays}, offset {offset}; they must be at least 1 "
                "and above 0"
            )
        self.n_rays = n_rays
        self.offset = offset
        self.viewpoints = viewpoints or SphereCap()

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        self.viewpoints.prepare(dataset.cameras)

    def forward(self, context: SceneContext) -> Tensor:
        device = context.background.device
        cameras = self.viewpoints.draw(1, context.generator)
        zeros = torch.zeros(self.n_rays, dtype=torch.int64)
        columns, rows = (
            torch.randint(size, (self.n_rays,), generator=context.generator)
            for size in (cameras.width, cameras.height)
        )
        rays = cameras.rays(zeros, columns, rows).to(device)
        jitter = moved(context.generator, device)
        field = queried(context.field, self.name)
        with torch.no_grad():
            samples, _ = context.sampler.sample(rays, field, jitter)
        if len(samples) == 0:
            return context.background.new_zeros(())
        offset = self.offset * float((rays.far - rays.near).mean())
        turn = torch.randn(len(rays), 3, generator=context.generator).to(device)
        shift = offset * torch.nn.functional.normalize(turn, dim=1)
        shifted = Rays(rays.rays_o + shift, rays.rays_d, rays.near, rays.far)
        there = Samples(shifted, samples.ts, samples.deltas, samples.ray_offsets)
        here, beside = (-torch.expm1(-field.density(at)[0] * offset) for at in (samples, there))
        return (here - beside).abs().mean()
