"""Radiance fields."""

from dietnerf.fields.base import AbstractField
from dietnerf.fields.mlp import MLP

__all__ = ["MLP", "AbstractField"]
