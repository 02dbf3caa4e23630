"""Losses."""

from dietnerf.losses.background import EmptyBackground
from dietnerf.losses.base import AbstractLoss, AbstractRayLoss, AbstractSceneLoss, Moment, Step
from dietnerf.losses.distortion import Distortion
from dietnerf.losses.entropy import OpacityEntropy, RayEntropy
from dietnerf.losses.lipschitz import Lipschitz
from dietnerf.losses.neighbours import NeighbourDivergence
from dietnerf.losses.occlusion import Occlusion
from dietnerf.losses.photometric import Photometric
from dietnerf.losses.reprojection import Reprojection
from dietnerf.losses.semantic import SemanticConsistency
from dietnerf.losses.smoothness import DensitySmoothness, DepthSmoothness

__all__ = [
    "AbstractLoss",
    "AbstractRayLoss",
    "AbstractSceneLoss",
    "DensitySmoothness",
    "DepthSmoothness",
    "Distortion",
    "EmptyBackground",
    "Lipschitz",
    "Moment",
    "NeighbourDivergence",
    "Occlusion",
    "OpacityEntropy",
    "Photometric",
    "RayEntropy",
    "Reprojection",
    "SemanticConsistency",
    "Step",
]
