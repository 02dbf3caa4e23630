"""Losses."""

from dietnerf.losses.base import (
    AbstractLoss,
    AbstractRayLoss,
    AbstractRegularizer,
    RayLossInput,
    SceneContext,
)
from dietnerf.losses.density_smoothness import DensitySmoothness
from dietnerf.losses.depth import Depth
from dietnerf.losses.depth_smoothness import DepthSmoothness
from dietnerf.losses.distortion import Distortion
from dietnerf.losses.empty_background import EmptyBackground
from dietnerf.losses.interlevel import Interlevel
from dietnerf.losses.neighbor_divergence import NeighborDivergence
from dietnerf.losses.occlusion import Occlusion
from dietnerf.losses.opacity_entropy import OpacityEntropy
from dietnerf.losses.photometric import Photometric
from dietnerf.losses.ray_entropy import RayEntropy
from dietnerf.losses.reprojection import Reprojection
from dietnerf.losses.semantic import SemanticConsistency
from dietnerf.losses.silhouette import Silhouette

__all__ = [
    "AbstractLoss",
    "AbstractRayLoss",
    "AbstractRegularizer",
    "DensitySmoothness",
    "Depth",
    "DepthSmoothness",
    "Distortion",
    "EmptyBackground",
    "Interlevel",
    "NeighborDivergence",
    "Occlusion",
    "OpacityEntropy",
    "Photometric",
    "RayEntropy",
    "RayLossInput",
    "Reprojection",
    "SceneContext",
    "SemanticConsistency",
    "Silhouette",
]
