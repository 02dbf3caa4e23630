"""What losses that compare depths with known ones have in common."""

import warnings
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays
from dietnerf.losses.base import AbstractRegularizer, SceneContext
from dietnerf.randomness import moved
from dietnerf.renderer import render_rays

CORNER = 0.01  # difference below which the losses are quadratic, share of the range of depths


class AbstractDepthLoss(AbstractRegularizer):
    """Difference of the expected depth from known depths, the mean over random pixels of those.

    Transmitted light counts as if it ended at far, so that rays have to become opaque, too.

    Args:
        weight: factor in the sum of all losses.
        n_rays: pixels in a step.
        is_optional: where no depth is known, warn and switch the loss off, instead of refusing to
            train.
        when: `every`, `start`, `stop`, `final_weight` and `ramp`, as for every loss.
    """

    def __init__(
        self, weight: float = 0.1, n_rays: int = 256, is_optional: bool = False, **when: Any
    ) -> None:
        super().__init__(weight, **when)
        if n_rays < 1:
            raise UserError(f"{type(self).__name__}: n_rays must be at least 1, got {n_rays}")
        self.n_rays = n_rays
        self.is_optional = is_optional

    def keep_known(self, depths: Tensor, cameras: Cameras, needs: str) -> None:
        """Keep the depths of cameras, (n, height, width), that are not 0. Where all are, say what
        the loss `needs`, and switch it off if it is optional.

        Raises:
            UserError: all are, and it is not.
        """
        self.places = (depths > 0).nonzero()  # (n_known, 3): image, row, column
        self.depths, self.cameras = depths[depths > 0], cameras
        if len(self.places):
            return
        problem = f"the loss {type(self).__name__} needs {needs}"
        if not self.is_optional:
            raise UserError(f"{problem}: leave it out")
        warnings.warn(f"{problem}: it counts for nothing", stacklevel=3)
        self.stop = self.start

    def forward(self, context: SceneContext) -> Tensor:
        device = context.background.device
        drawn = torch.randint(len(self.places), (self.n_rays,), generator=context.generator)
        ids, rows, columns = self.places[drawn].unbind(-1)
        rays = self.cameras.rays(ids, columns, rows).to(device)
        known = self.depths[drawn].to(device)
        jitter = moved(context.generator, device)
        rendering, _ = render_rays(rays, context.field, context.sampler, context.background, jitter)
        found = rendering.depth + (1 - rendering.opacity) * rays.far
        self.scalars["error"] = (found.detach() - known).abs().mean()
        share = self.share_of(found, known, rays)
        return F.smooth_l1_loss(share, torch.zeros_like(share), beta=CORNER)

    @abstractmethod
    def share_of(self, found: Tensor, known: Tensor, rays: Rays) -> Tensor:
        """The difference of depths (n_rays,) relative to the range that they can have."""
