"""Supervision by depth maps or sparse points."""

import warnings
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.losses.base import AbstractRegularizer, SceneContext
from dietnerf.randomness import moved
from dietnerf.renderer import render_rays

CORNER = 0.01  # difference below which the loss is quadratic, fraction of near to far


@final
class Depth(AbstractRegularizer):
    """Difference of the expected depth from depth maps or sparse points, relative to the distance
    from near to far, the mean over random pixels of known depth (DS-NeRF, Deng et al. 2022, section
    4.1, with the absolute difference in place of the KL divergence, and a smooth corner).

    Transmitted light counts as if it ended at far, so that rays have to become opaque, too.

    Args:
        weight: factor in the sum of all losses.
        n_rays: pixels in a step.
        is_optional: where no training photo has known depths, warn and switch the loss off, instead
            of refusing to train.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self,
        weight: float = 0.1,
        n_rays: int = 256,
        is_optional: bool = False,
        **when: Any,
    ) -> None:
        super().__init__(weight, **when)
        if n_rays < 1:
            raise UserError(f"Depth: n_rays must be at least 1, got {n_rays}")
        self.n_rays = n_rays
        self.is_optional = is_optional

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        depths = torch.zeros(dataset.images.shape[:3]) if dataset.depths is None else dataset.depths
        known = depths > 0
        if dataset.masks is not None:
            known = known & dataset.masks
        self.places = known.nonzero()  # (n_known, 3): image, row, column
        if not len(self.places):
            needs = "depth maps or sparse points, which the training photos lack"
            if not self.is_optional:
                raise UserError(f"the loss Depth needs {needs}: leave it out")
            warnings.warn(f"the loss Depth needs {needs}: it counts for nothing", stacklevel=2)
            self.stop = self.start
            return
        self.depths = depths[known]
        self.cameras = dataset.cameras

    def forward(self, context: SceneContext) -> Tensor:
        device = context.background.device
        drawn = torch.randint(len(self.places), (self.n_rays,), generator=context.generator)
        ids, rows, columns = self.places[drawn].unbind(-1)
        rays = self.cameras.rays(ids, columns, rows).to(device)
        known = self.depths[drawn].to(device)
        jitter = moved(context.generator, device)
        rendering, _ = render_rays(rays, context.field, context.sampler, context.background, jitter)
        found = rendering.depth + (1 - rendering.opacity) * rays.far
        share = (found - known) / (rays.far - rays.near)
        self.scalars["error"] = (found.detach() - known).abs().mean()
        return F.smooth_l1_loss(share, torch.zeros_like(share), beta=CORNER)
