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
from dietnerf.losses.distortion import Distortion
from dietnerf.losses.empty_background import EmptyBackground
from dietnerf.losses.interlevel import Interlevel
from dietnerf.losses.occlusion import Occlusion
from dietnerf.losses.photometric import Photometric
from dietnerf.losses.semantic import SemanticConsistency
from dietnerf.losses.silhouette import Silhouette

__all__ = [
    "AbstractLoss",
    "AbstractRayLoss",
    "AbstractRegularizer",
    "DensitySmoothness",
    "Depth",
    "Distortion",
    "EmptyBackground",
    "Interlevel",
    "Occlusion",
    "Photometric",
    "RayLossInput",
    "SceneContext",
    "SemanticConsistency",
    "Silhouette",
]
