"""An occupancy grid as rays march through it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Cells:
    """Where there may be something, and how finely rays look there: arguments of
    `dietnerf.ops.march_rays`.

    Args:
        bounds: lowest and highest corner of the box of level 0, scene units, (2, 3).
        occupied: uint8, (n_levels, resolution^3 / 8).
        resolution: cells along each axis of a level.
        step: length of an interval, scene units.
        cone_angle: by how much intervals grow with t.
    """

    bounds: Tensor
    occupied: Tensor
    resolution: int
    step: float
    cone_angle: float
