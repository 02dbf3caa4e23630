"""One random sample in each of equal slices of the ray."""

import torch

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.ops import sample_stratified
from dietnerf.sampling.base import AbstractSampler, draw_uniform

MOST_SAMPLES = 1 << 16


class Stratified(AbstractSampler):
    """Stratified sampling between near and far (NeRF, section 4, eq. 2).

    Args:
        n_samples: samples on each ray.
        lindisp: equal slices of 1/t (disparity) instead of t.
        last_delta: length of the last interval in units of t. 1e10 is the authors' choice: whatever
            density the last sample has, it absorbs all remaining light, so a density that is never
            exactly zero (softplus) makes every ray opaque. None ends the last interval at far.
    """

    def __init__(
        self, n_samples: int = 64, lindisp: bool = False, last_delta: float | None = None
    ) -> None:
        super().__init__()
        if not 1 <= n_samples <= MOST_SAMPLES:
            raise UserError(f"n_samples is {n_samples}; there must be 1 to {MOST_SAMPLES} on a ray")
        self._n_samples = n_samples
        self.lindisp = lindisp
        self.last_delta = last_delta

    @property
    def n_samples(self) -> int:
        return self._n_samples

    def sample(
        self,
        rays: Rays,
        field: AbstractField,
        generator: torch.Generator | None,
        capacity: int | None = None,
    ) -> tuple[Samples, Rendering | None]:
        return self.place(rays, generator), None

    def place(self, rays: Rays, generator: torch.Generator | None) -> Samples:
        """The samples alone: (n_rays * n_samples)."""
        device = rays.near.device
        n_rays, n_samples = len(rays), self.n_samples
        ray_offsets = torch.arange(0, n_rays * n_samples + 1, n_samples, device=device)
        jitter = draw_uniform((n_rays * n_samples,), generator, device)
        ts = sample_stratified(rays.near, rays.far, ray_offsets, jitter, self.lindisp)
        return Samples.dense(rays, ts.view(n_rays, n_samples), self.last_delta)
