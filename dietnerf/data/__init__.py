"""Scenes, the readers that make them, and the rules that say which few views are kept."""

from dietnerf.data.blender import Blender
from dietnerf.data.procedural import Procedural
from dietnerf.data.scene import AbstractReader, Capture, Scene, Split, require_alpha
from dietnerf.data.views import (
    AbstractViews,
    AllViews,
    ExplicitViews,
    FarthestViews,
    FirstViews,
    OneSideViews,
    SeededViews,
)

__all__ = [
    "AbstractReader",
    "AbstractViews",
    "AllViews",
    "Blender",
    "Capture",
    "ExplicitViews",
    "FarthestViews",
    "FirstViews",
    "OneSideViews",
    "Procedural",
    "Scene",
    "SeededViews",
    "Split",
    "require_alpha",
]
