"""Radiance fields."""

from dietnerf.fields.base import AbstractField, AbstractRadianceField
from dietnerf.fields.ensemble import Ensemble
from dietnerf.fields.hash_grid import HashGrid
from dietnerf.fields.mlp import MLP

__all__ = ["MLP", "AbstractField", "AbstractRadianceField", "Ensemble", "HashGrid"]
