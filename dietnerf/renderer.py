"""Rendering: from rays and a field to colors, for batches of rays and for whole images in
chunks."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from dietnerf.errors import UserError, is_out_of_memory
from dietnerf.fields.base import AbstractField, AbstractRadianceField, queried
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering
from dietnerf.sampling.base import AbstractSampler


def inference_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Precision that suffices for 8-bit images: half precision on a GPU, where the fast field
    renders in one kernel."""
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast(device.type, torch.float16)


def rays_per_chunk(field: AbstractField, sampler: AbstractSampler, device: torch.device) -> int:
    """How many rays are rendered at a time."""
    return max(1, field.samples_per_chunk(device) // sampler.n_samples)


def render_rays(
    rays: Rays,
    field: AbstractRadianceField,
    sampler: AbstractSampler,
    background: Tensor,
    generator: torch.Generator | None = None,
    capacity: int | None = None,
) -> tuple[Rendering, Rendering | None]:
    """Render a batch of rays over a background color, (3,) or (n_rays, 3).

    Without a generator nothing is random; `capacity` is as for `AbstractSampler.sample`.
    Differentiable in the parameters of field and sampler.

    Raises:
        UserError: there are no samples along rays of such a field.

    Returns:
        The rendering, and the coarse one that guided its samples where the sampler made one.
    """
    along_rays = queried(field, "rendering single rays")
    samples, coarse = sampler.sample(rays, along_rays, generator, capacity)
    fine = along_rays.render(samples).over(background)
    return fine, None if coarse is None else coarse.over(background)


@torch.no_grad()
def render_image(
    cameras: Cameras,
    index: int,
    field: AbstractRadianceField,
    sampler: AbstractSampler,
    background: Tensor,
) -> Rendering:
    """Render the whole image of one camera, without randomness and without keeping weights.

    Where memory runs out, it continues with half as many rays at a time.

    Returns:
        A rendering of height * width rays, row by row, on the device of the background.
    """
    device = background.device
    if isinstance(field, Gaussians):
        return field.render_view(cameras, index).over(background)
    assert isinstance(field, AbstractField)
    if device.type == "cuda":  # which casts its rays itself
        cameras, index = cameras[[index]].to(device), 0
    n_pixels = cameras.height * cameras.width
    n_rays = n_pixels
    if not _can_trace(field, sampler, device):
        n_rays = min(rays_per_chunk(field, sampler, device), n_rays)
    whole: Rendering | None = None
    first = 0
    while first < n_pixels:
        pixels = range(first, min(first + n_rays, n_pixels))
        part = _rendered(cameras, index, pixels, field, sampler, background)
        if part is not None and len(pixels) == n_pixels:
            return part
        if part is not None:
            whole = whole or part.room_for(n_pixels)
            whole.put(first, part)
            first += n_rays
        elif n_rays > 1:
            n_rays = math.ceil(n_rays / 2)
        else:
            raise UserError(f"{device} has no memory for a single ray; free some of it")
    assert whole is not None, "an image has pixels"
    return whole


def _rendered(
    cameras: Cameras,
    index: int,
    pixels: range,
    field: AbstractField,
    sampler: AbstractSampler,
    background: Tensor,
) -> Rendering | None:
    """A chunk without its weights, or None where the memory does not suffice.

    The memory of a failed attempt is freed only after this returns.
    """
    try:
        numbers = torch.arange(pixels.start, pixels.stop, device=cameras.c2w.device)
        rays = cameras.image_rays(index, numbers).to(background.device)
        if sampler.grid is not None and _can_trace(field, sampler, background.device):
            return field.trace(rays, sampler.grid).over(background)
        rendering, _ = render_rays(rays, field, sampler, background)
        return replace(rendering, weights=rendering.weights[:0], samples=None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _can_trace(field: AbstractField, sampler: AbstractSampler, device: torch.device) -> bool:
    return sampler.grid is not None and field.can_trace(device)
