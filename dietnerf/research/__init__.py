"""Losses, schedules and a field from the literature that gained nothing here: no preset uses them.

Each is one file, selectable as any other, such as `class_path: dietnerf.research.Reprojection`;
docs/few-views.md says what each was worth.
"""

from dietnerf.research.depth_smoothness import DepthSmoothness
from dietnerf.research.direction_annealing import DirectionAnnealing
from dietnerf.research.near_far_annealing import NearFarAnnealing
from dietnerf.research.neighbor_divergence import NeighborDivergence
from dietnerf.research.opacity_entropy import OpacityEntropy
from dietnerf.research.radius_annealing import RadiusAnnealing
from dietnerf.research.ray_entropy import RayEntropy
from dietnerf.research.reprojection import Reprojection
from dietnerf.research.tri_planes import TriPlanes

__all__ = [
    "DepthSmoothness",
    "DirectionAnnealing",
    "NearFarAnnealing",
    "NeighborDivergence",
    "OpacityEntropy",
    "RadiusAnnealing",
    "RayEntropy",
    "Reprojection",
    "TriPlanes",
]
