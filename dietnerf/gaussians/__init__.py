"""Scenes of Gaussians, which are drawn onto whole images."""

from dietnerf.gaussians.model import Gaussians
from dietnerf.gaussians.start import Points

__all__ = ["Gaussians", "Points"]
