"""`depth`: depth maps as 16-bit PNG with their scale, as EXR or as NumPy arrays."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from tqdm import tqdm

from dietnerf.arguments import path_name
from dietnerf.errors import UserError
from dietnerf.export.cameras import write_cameras
from dietnerf.export.paths import (
    add_path_options,
    add_run_options,
    camera_path,
    check_memory,
    check_path_options,
    load_run,
    output_of,
)
from dietnerf.files import replace_file, write_file
from dietnerf.geometry.cameras import Cameras
from dietnerf.optional import require
from dietnerf.runs.checkpoints import find_checkpoint
from dietnerf.scene_model import SceneModel
from dietnerf.visualize import surface_depth

LARGEST = 2**16 - 1
OPAQUE = 0.5  # opacity below which a pixel has no depth


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `depth`."""
    add_run_options(parser)
    add_path_options(parser, default="train")
    add = parser.add_argument
    add("--out", type=path_name, help="folder (default: depth in the run)")
    add("--format", choices=("png", "exr", "npy"), default="png")


def check(options: argparse.Namespace) -> None:
    """Check the options.

    Raises:
        UserError: names the option.
    """
    options.path = options.path or "train"
    check_path_options(options)
    if options.format == "exr":
        require("OpenEXR", "OpenEXR", "--format exr")


def run(options: argparse.Namespace) -> None:
    """Write the depth maps."""
    checkpoint = find_checkpoint(options.checkpoint)
    out = output_of(options, checkpoint, "depth")
    scene, camera_set = load_run(options)
    cameras = camera_path(camera_set, options)
    check_memory(cameras, 4, " or fewer --frames")
    write_depths(scene, cameras, out, options.format)
    print(out)


def write_depths(scene: SceneModel, cameras: Cameras, out: Path, ending: str = "png") -> None:
    """Write a depth map for each camera, and `depth.json` with the cameras and the scale.

    Depth is the distance along the camera axis, 0 where opacity is below one half. EXR (channel Z)
    and NumPy hold it in scene units, float32; PNG in steps of `integer_depth_scale`, the same for
    all maps, with 65,535 for the farthest depth.

    Args:
        scene: as `load_scene` gives it.
        cameras: (n).
        out: folder.
        ending: png, exr or npy.
    """
    maps = []
    for i in tqdm(range(len(cameras)), unit="frame", desc="rendering"):
        seen = scene.render_rays_of(cameras, i, torch.zeros(3))
        depth = surface_depth(seen).where(seen.opacity > OPAQUE, 0.0)
        maps.append(depth.view(cameras.height, cameras.width).cpu().numpy())
    scale = max(*(float(values.max()) for values in maps), 1e-6) / LARGEST
    names = [f"depth_{i:03d}.{ending}" for i in range(len(maps))]
    for name, values in zip(names, maps, strict=True):
        WRITERS[ending](out / name, values, scale)
    scales = {"integer_depth_scale": [scale] * len(maps)} if ending == "png" else {}
    write_cameras(cameras, out / "depth.json", depth_file_path=names, **scales)


def _write_png(path: Path, depth: np.ndarray, scale: float) -> None:
    steps = (depth / scale).round().clip(0, LARGEST).astype(np.uint16)
    write_file(path, iio.imwrite("<bytes>", steps, extension=".png"))


def _write_exr(path: Path, depth: np.ndarray, scale: float) -> None:
    exr = require("OpenEXR", "OpenEXR", "--format exr")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with replace_file(path) as part:
        try:
            exr.File(header, {"Z": depth}).write(str(part))
        except RuntimeError as error:
            raise UserError(f"{path} cannot be written: {error}") from error


def _write_npy(path: Path, depth: np.ndarray, scale: float) -> None:
    content = io.BytesIO()
    np.save(content, depth)
    write_file(path, content.getbuffer())


Writer = Callable[[Path, np.ndarray, float], None]
WRITERS: dict[str, Writer] = {"png": _write_png, "exr": _write_exr, "npy": _write_npy}
