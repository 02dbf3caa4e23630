"""Whether a field shows surfaces or fog, as it does before it is trained or where it went wrong."""

import warnings
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dietnerf.fields import AbstractField
from dietnerf.geometry.rays import Rendering
from dietnerf.geometry.unseen import coarse, spread_out
from dietnerf.renderer import render_rays
from dietnerf.scene_model import SceneModel

N_CAMERAS, N_PIXELS = 12, 24  # that are looked at: less than a second
FAINT, SOLID = 0.1, 0.9  # opacity of pixels that are neither empty nor covered
THICK = 0.3  # of its depth, from where on what a pixel shows is no surface
MOST_FAINT, MOST_THICK = 0.25, 0.5  # shares of the pixels; docs/export.md has what scenes have


@dataclass(frozen=True)
class Fog:
    """What the training views of a scene show.

    Args:
        faint: share of their pixels with an opacity from 0.1 to 0.9.
        thick: share of their pixels, of those more opaque than 0.5, whose middle 80 % of light come
            from depths that differ by more than 0.3 of them.
    """

    faint: float
    thick: float

    @classmethod
    @torch.no_grad()
    def of(cls, scene: SceneModel) -> Self:
        """Measured on a few small pictures."""
        train = scene.cameras["train"]
        cameras = coarse(train[spread_out(len(train), N_CAMERAS)], N_PIXELS)
        black = torch.zeros(3, device=scene.device)
        opacities, extents = [], []
        for i in range(len(cameras)):
            if isinstance(scene.field, AbstractField):
                rays = cameras.image_rays(i).to(scene.device)
                rendering, _ = render_rays(rays, scene.field, scene.sampler, black)
                extents.append(relative_extent(rendering).cpu())
            else:  # whose light is not told apart by depth
                rendering = scene.render_rays_of(cameras, i, black)
                extents.append(torch.zeros_like(rendering.depth).cpu())
            opacities.append(rendering.opacity.cpu())
        opacity, extent = torch.cat(opacities), torch.cat(extents)
        thick = extent[opacity > 0.5] > THICK
        is_faint = (opacity > FAINT) & (opacity < SOLID)
        return cls(float(is_faint.float().mean()), float(thick.float().sum() / max(1, len(thick))))

    @property
    def is_dense(self) -> bool:
        """Whether there is more of it than in scenes that are worth a look."""
        return self.faint > MOST_FAINT or self.thick > MOST_THICK


def relative_extent(rendering: Rendering) -> Tensor:
    """Between which depths the middle 80 % of a ray's light come from, over the middle one of them,
    (n_rays,); 0 where nothing is."""
    samples = rendering.samples
    assert samples is not None, "bundles of rays keep their weights"
    offsets = samples.ray_offsets
    if not len(samples.ts):
        return torch.zeros_like(rendering.opacity)
    first, last = offsets[:-1], (offsets[1:] - 1).clamp_min(0)
    sums = rendering.weights.double().cumsum(0)
    before = torch.cat([sums.new_zeros(1), sums])[first]
    total = sums[last] - before

    def depth(share: float) -> Tensor:
        """Where so much of the light was stopped."""
        place = torch.searchsorted(sums, before + share * total)
        return samples.ts[torch.minimum(torch.maximum(place, first), last).clamp(max=len(sums) - 1)]

    low, middle, high = (depth(share) for share in (0.1, 0.5, 0.9))
    return ((high - low) / middle.clamp_min(torch.finfo(middle.dtype).tiny)).where(total > 0, 0.0)


def warn_of_fog(scene: SceneModel, what: str) -> None:
    """Say so where `what` is made of it."""
    fog = Fog.of(scene)
    if fog.is_dense:
        warnings.warn(
            f"the scene is fog, and so will be {what}: {fog.faint:.0%} of the pixels of its "
            f"training views are neither empty nor covered (good scenes: below {MOST_FAINT:.0%}), "
            f"and the light of {fog.thick:.0%} of the others comes from depths that differ by "
            f"{THICK:.0%} or more (below {MOST_THICK:.0%}); train longer, or see `dietnerf report`",
            stacklevel=2,
        )
