"""A small scene in the Blender format, written on the spot."""

from pathlib import Path

import pytest

from dietnerf.data import ImageDataset, Procedural
from tests.formats import write_blender


@pytest.fixture(scope="session")
def small_scene() -> ImageDataset:
    return Procedural(resolution=12, n_train=4).read("train")


@pytest.fixture
def folder(small_scene: ImageDataset, tmp_path: Path) -> Path:
    """A Blender-format folder of four training views of 12x12 pixels, and the same for testing."""
    root = tmp_path / "toy"
    write_blender(small_scene, root, "train")
    write_blender(small_scene, root, "test")
    return root
