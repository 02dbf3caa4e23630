"""Photographs of the generated scene that is patterned all over."""

from pathlib import Path

import imageio.v3 as iio
import torch

from dietnerf.data.procedural import Procedural
from dietnerf.data.procedural.mosaic import mosaic_scene
from dietnerf.data.procedural.tracing import trace
from dietnerf.geometry.cameras import Cameras
from dietnerf.visualize import to_uint8


def cameras_around(n: int, n_round: int, resolution: int) -> Cameras:
    """The first n of `n_round` cameras that go round once, up and down."""
    return Procedural(resolution=resolution, n_test=n_round).cameras("test")[:n]


def take(cameras: Cameras, folder: Path, ending: str = "png") -> None:
    """Photographs over white, one ray a pixel: shot_0.png and so on."""
    solids = mosaic_scene()
    folder.mkdir(parents=True)
    for i in range(len(cameras)):
        rgba, _ = trace(cameras.image_rays(i), solids)
        rgb = torch.lerp(torch.ones(3), rgba[:, :3], rgba[:, 3:])
        picture = to_uint8(rgb).unflatten(0, (cameras.height, -1))
        iio.imwrite(folder / f"shot_{i}.{ending}", picture.numpy())
