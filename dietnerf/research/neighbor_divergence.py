"""Agreement of neighboring rays about depth."""

from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.fields.base import queried
from dietnerf.geometry.rays import Rendering
from dietnerf.losses.base import AbstractRegularizer, SceneContext
from dietnerf.randomness import moved

TINY = 1e-10
PIXELS = 1.0  # largest distance of the second ray from the first
MIN_OPACITY = 0.1  # pairs with a less opaque ray see the background and do not count


@final
class NeighborDivergence(AbstractRegularizer):
    """Kullback-Leibler divergence, in nats, between the distributions of weights along a training
    ray and a ray close to it (InfoNeRF, Kim et al. 2022, section 3.3, eq. 10).

    Both rays are sampled at the same distances.

    Args:
        weight: factor in the sum of all losses.
        n_rays: pairs in a step.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self,
        weight: float = 1e-3,
        n_rays: int = 256,
        **when: Any,
    ) -> None:
        super().__init__(weight, **when)
        if n_rays < 1:
            raise UserError(f"NeighborDivergence: n_rays must be at least 1, got {n_rays}")
        self.n_rays = n_rays

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        self.cameras = dataset.cameras

    def forward(self, context: SceneContext) -> Tensor:
        device, generator = context.background.device, context.generator

        def draw(below: int) -> Tensor:
            return torch.randint(below, (self.n_rays,), generator=generator)

        ids, columns, rows = (
            draw(n) for n in (len(self.cameras), self.cameras.width, self.cameras.height)
        )
        shift = (2 * torch.rand(2, self.n_rays, generator=generator) - 1) * PIXELS
        rays = self.cameras.rays(ids, columns, rows).to(device)
        beside = self.cameras.rays(ids, columns + shift[0], rows + shift[1]).to(device)
        field = queried(context.field, self.name)
        samples, _ = context.sampler.sample(rays, field, moved(generator, device))
        one = field.render(samples)
        other = field.render(replace(samples, rays=beside))
        p, q = (_shares(rendering, samples.ray_indices) for rendering in (one, other))
        terms = p * ((p + TINY) / (q + TINY)).log()
        divergence = torch.zeros_like(one.opacity).index_add(0, samples.ray_indices, terms)
        counts = torch.minimum(one.opacity, other.opacity).detach() > MIN_OPACITY
        return (divergence * counts).mean()


def _shares(rendering: Rendering, rays: Tensor) -> Tensor:
    """The weights of each ray, divided by their sum."""
    total = torch.zeros_like(rendering.opacity).index_add(0, rays, rendering.weights)
    return rendering.weights / total.clamp(min=TINY)[rays]
