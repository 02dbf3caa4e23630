"""Refinement of inaccurate camera poses during training."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays


class CameraRefinement(nn.Module):
    """A small rotation and shift of every training camera, and one factor of all focal lengths,
    learned by gradient descent through the rays (BARF, Lin et al. 2021).

    Gradients through hash grids reach no farther than a cell, so that corrections of more than a
    few pixels need fine levels that are enabled late: add the schedule `LevelAnnealing`. Test
    cameras are not changed.

    Args:
        rate: learning rate, as a share of the field's: radians and scene units a step, about.
        decay: decoupled weight decay of the corrections, per learning rate; without it the scene
            and all cameras could drift.
        refines_focal: learn the focal length as well.
    """

    rotations: nn.Parameter  # (n, 3), axis times angle, radians, about the camera's center
    shifts: nn.Parameter  # (n, 3), scene units
    log_focal: nn.Parameter  # (1,)

    def __init__(
        self, rate: float = 0.01, decay: float = 10.0, refines_focal: bool = False
    ) -> None:
        super().__init__()
        if not (rate > 0 and decay >= 0):
            raise UserError(
                f"refinement: rate is {rate}, decay {decay}; they must be above 0 and at least 0"
            )
        self.rate, self.decay = rate, decay
        self.refines_focal = refines_focal
        for name, shape in (("rotations", (0, 3)), ("shifts", (0, 3)), ("log_focal", (1,))):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        self.log_focal.requires_grad_(refines_focal)
        self.register_buffer("backward", torch.zeros(0, 3))  # the cameras' axes

    backward: Tensor

    def prepare(self, cameras: Cameras) -> None:
        """Reset the corrections."""
        for parameter in (self.rotations, self.shifts):
            parameter.data = torch.zeros_like(cameras.positions, device=parameter.device)
        self.backward = cameras.c2w[:, :, 2].to(self.shifts.device)

    def forward(self, rays: Rays, ids: Tensor) -> Rays:
        """The rays (n_rays) of cameras `ids` (n_rays,), corrected."""
        axis = self.backward[ids]  # rays_d has length one along it
        turned = _rotate(
            (rays.rays_d + axis) * torch.exp(-self.log_focal) - axis, self.rotations[ids]
        )
        return replace(rays, rays_o=rays.rays_o + self.shifts[ids], rays_d=turned)

    @torch.no_grad()
    def refined(self, cameras: Cameras) -> Cameras:
        """The training cameras with their corrections."""
        corrections = [p.detach().to(cameras.c2w.device) for p in self.parameters()]
        rotations, shifts, log_focal = corrections
        axes = cameras.c2w[:, :, :3].transpose(1, 2)  # (n, 3 axes, 3)
        turned = _rotate(axes, rotations[:, None].expand_as(axes)).transpose(1, 2)
        places = cameras.c2w[:, :, 3:] + shifts[:, :, None]
        return replace(
            cameras,
            c2w=torch.cat([turned, places], dim=-1),
            focal=cameras.focal * torch.exp(log_focal),
        )

    def _load_from_state_dict(self, saved: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # The number of cameras is known from the checkpoint only.
        for name in ("rotations", "shifts", "backward"):
            own, found = getattr(self, name), saved.get(prefix + name)
            if found is not None and len(own) == 0:
                own.data = torch.zeros_like(found, device=own.device)
        super()._load_from_state_dict(saved, prefix, *rest)


def _rotate(vectors: Tensor, rotations: Tensor) -> Tensor:
    """Vectors (..., 3) turned by axis times angle (..., 3): Rodrigues' formula, smooth at zero."""
    squared = (rotations**2).sum(dim=-1, keepdim=True)
    angle = squared.clamp(min=1e-12).sqrt()
    is_small = squared < 1e-6
    sine = torch.where(is_small, 1 - squared / 6, angle.sin() / angle)
    cosine = torch.where(is_small, 0.5 - squared / 24, (1 - angle.cos()) / angle**2)
    once = torch.linalg.cross(rotations, vectors)
    return vectors + sine * once + cosine * torch.linalg.cross(rotations, once)
