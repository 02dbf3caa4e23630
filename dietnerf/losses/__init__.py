"""Losses."""

from dietnerf.losses.absolute_error import AbsoluteError
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
from dietnerf.losses.gaussian_size import GaussianSize
from dietnerf.losses.interlevel import Interlevel
from dietnerf.losses.occlusion import Occlusion
from dietnerf.losses.photometric import Photometric
from dietnerf.losses.semantic import SemanticConsistency
from dietnerf.losses.silhouette import Silhouette
from dietnerf.losses.stereo_depth import StereoDepth
from dietnerf.losses.structural_dissimilarity import StructuralDissimilarity

__all__ = [
    "AbsoluteError",
    "AbstractLoss",
    "AbstractRayLoss",
    "AbstractRegularizer",
    "DensitySmoothness",
    "Depth",
    "Distortion",
    "EmptyBackground",
    "GaussianSize",
    "Interlevel",
    "Occlusion",
    "Photometric",
    "RayLossInput",
    "SceneContext",
    "SemanticConsistency",
    "Silhouette",
    "StereoDepth",
    "StructuralDissimilarity",
]
