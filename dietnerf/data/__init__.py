"""Scenes, the readers that make them, and the rules that say which few views are kept."""

from dietnerf.data.blender import Blender
from dietnerf.data.camera_set import CameraSet
from dietnerf.data.colmap import COLMAP
from dietnerf.data.dataset import ImageDataset, Split, require_alpha
from dietnerf.data.llff import LLFF
from dietnerf.data.nerfstudio import Transforms
from dietnerf.data.procedural import Procedural
from dietnerf.data.reader import AbstractReader
from dietnerf.data.views import (
    AbstractViewSelector,
    AllViews,
    EvenViews,
    ExplicitViews,
    FarthestViews,
    FirstViews,
    OneSideViews,
    RandomViews,
)

__all__ = [
    "COLMAP",
    "LLFF",
    "AbstractReader",
    "AbstractViewSelector",
    "AllViews",
    "Blender",
    "CameraSet",
    "EvenViews",
    "ExplicitViews",
    "FarthestViews",
    "FirstViews",
    "ImageDataset",
    "OneSideViews",
    "Procedural",
    "RandomViews",
    "Split",
    "Transforms",
    "require_alpha",
]
