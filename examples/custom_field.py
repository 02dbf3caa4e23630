"""A radiance field of one's own: a dense grid of density and color, interpolated.

    PYTHONPATH=examples dietnerf fit --config configs/quickstart.yaml --run runs/voxels \
        --model.field custom_field.VoxelGrid --model.field.init_args.resolution 96
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.fields import AbstractField
from dietnerf.geometry.rays import Samples


@final
class VoxelGrid(AbstractField):
    """Density and color at the corners of a cube around the origin, the same from all sides.

    Args:
        resolution: corners along each side.
        half_side: half the side of the cube, scene units.
    """

    def __init__(self, resolution: int = 96, half_side: float = 1.5) -> None:
        super().__init__()
        self.half_side = half_side
        self.values = nn.Parameter(torch.zeros(1, 4, resolution, resolution, resolution))

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        points = (samples.positions / self.half_side).view(1, 1, 1, -1, 3)
        features = F.grid_sample(self.values, points, align_corners=True).view(4, -1).T
        is_inside = (points.abs() <= 1).all(dim=-1).flatten()
        return F.softplus(10 * features[:, 0]) * is_inside, features

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        return features[:, 1:].sigmoid()
