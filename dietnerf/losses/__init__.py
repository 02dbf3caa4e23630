"""Losses."""

from dietnerf.losses.base import AbstractLoss, Step
from dietnerf.losses.photometric import Photometric

__all__ = ["AbstractLoss", "Photometric", "Step"]
