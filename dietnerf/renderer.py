"""From rays and a field to colours: bundles of rays, and whole images in chunks of them."""

from dataclasses import replace

import torch
from torch import Tensor

from dietnerf.fields.base import AbstractField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering
from dietnerf.sampling.base import AbstractSampler


def rays_per_chunk(field: AbstractField, sampler: AbstractSampler, device: torch.device) -> int:
    """How many rays are rendered at a time."""
    return max(1, field.samples_per_chunk(device) // sampler.n_samples)


def render_rays(
    rays: Rays,
    field: AbstractField,
    sampler: AbstractSampler,
    background: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Rendering, Rendering | None]:
    """Render a bundle of rays over a background colour, (3,) or (n_rays, 3).

    Without a generator nothing is random. Differentiable in the parameters of field and sampler.

    Returns:
        The rendering, and the coarse one that guided its samples where the sampler made one.
    """
    samples, coarse = sampler.sample(rays, field, generator)
    fine = field.render(samples).over(background)
    return fine, None if coarse is None else coarse.over(background)


@torch.no_grad()
def render_image(
    cameras: Cameras,
    index: int,
    field: AbstractField,
    sampler: AbstractSampler,
    background: Tensor,
) -> Rendering:
    """Render the whole image of one camera, without randomness and without keeping weights.

    Returns:
        A rendering of height * width rays, row by row, on the device of the background.
    """
    device = background.device
    chunks = cameras.image_rays(index).split(rays_per_chunk(field, sampler, device))
    parts = []
    for rays in chunks:
        rendering, _ = render_rays(rays.to(device), field, sampler, background)
        parts.append(replace(rendering, weights=rendering.weights[:0], samples=None))
    return Rendering.cat(parts)
