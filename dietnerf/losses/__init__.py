"""Losses."""

from dietnerf.losses.base import AbstractLoss, AbstractRayLoss, AbstractSceneLoss, Moment, Step
from dietnerf.losses.photometric import Photometric
from dietnerf.losses.semantic import SemanticConsistency

__all__ = [
    "AbstractLoss",
    "AbstractRayLoss",
    "AbstractSceneLoss",
    "Moment",
    "Photometric",
    "SemanticConsistency",
    "Step",
]
