"""Writes a scene as a folder in the Blender format."""

import json
import math
from pathlib import Path

import imageio.v3 as iio
import torch

from dietnerf.data import Scene


def write_blender(scene: Scene, root: Path, split: str) -> None:
    """Write `scene` as one split of a Blender-format folder: a JSON file and PNG images."""
    cameras = scene.cameras
    (root / split).mkdir(parents=True)
    frames = []
    for i in range(len(scene)):
        iio.imwrite(root / split / f"r_{i}.png", scene.images[i].numpy())
        c2w = torch.cat([cameras.c2w[i], torch.tensor([[0.0, 0.0, 0.0, 1.0]])])
        frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": c2w.tolist()})
    angle = 2 * math.atan(cameras.width / 2 / float(cameras.focal[0, 0]))
    listing = {"camera_angle_x": angle, "frames": frames}
    (root / f"transforms_{split}.json").write_text(json.dumps(listing))
