"""`points`: a colored point cloud of the surfaces that cameras see, as PLY or GLB."""

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.arguments import number, path_name
from dietnerf.errors import UserError
from dietnerf.export.fog import warn_of_fog
from dietnerf.export.paths import (
    add_path_options,
    add_run_options,
    camera_path,
    check_memory,
    check_path_options,
    load_run,
    output_of,
)
from dietnerf.files import write_file
from dietnerf.geometry.cameras import Cameras
from dietnerf.optional import require
from dietnerf.runs.checkpoints import find_checkpoint
from dietnerf.scene_model import SceneModel
from dietnerf.visualize import surface_depth, to_uint8

FORMATS = (".ply", ".glb")
SOLID = 0.9  # smallest opacity of a pixel that counts
STEEPEST = 0.05  # largest relative change of depth to a neighbor of a pixel that counts


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `points`."""
    add_run_options(parser)
    add_path_options(parser, default="train")
    add = parser.add_argument
    add("--out", type=path_name, help=f"{' or '.join(FORMATS)} (default: points.ply in the run)")
    add(
        "--points",
        type=number(int, 1, 10**9),
        default=1_000_000,
        help="at most so many, taken evenly of all",
    )


def check(options: argparse.Namespace) -> None:
    """Check the options.

    Raises:
        UserError: names the option.
    """
    options.path = options.path or "train"
    check_path_options(options)
    if options.out is not None and options.out.suffix not in FORMATS:
        raise UserError(f"--out {options.out}: points are written as {' or '.join(FORMATS)}")
    require("trimesh", "trimesh", "a point cloud")


def run(options: argparse.Namespace) -> None:
    """Write the points."""
    checkpoint = find_checkpoint(options.checkpoint)
    out = output_of(options, checkpoint, "points.ply")
    scene, camera_set = load_run(options)
    warn_of_fog(scene, "the points")
    cameras = camera_path(camera_set, options)
    check_memory(cameras, 30, " or fewer --frames")
    points, colors = seen_points(scene, cameras)
    if len(points) == 0:
        raise UserError("no pixel of these cameras shows anything solid: see render.py")
    few = torch.linspace(0, len(points) - 1, min(options.points, len(points))).long()
    cloud = require("trimesh", "trimesh", "a point cloud").PointCloud(
        points[few].numpy(), colors[few].numpy()
    )
    write_file(out, cloud.export(file_type=out.suffix[1:]))
    print(f"{out}: {len(few)} points")


def seen_points(scene: SceneModel, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Points on the surfaces that cameras see.

    Pixels that are not quite opaque, or at an edge, where depth is a mean of near and far, are left
    out.

    Returns:
        Points in scene units, (n, 3), and their colors, 8 bit, (n, 3).
    """
    points, colors = [], []
    for i in range(len(cameras)):
        seen = scene.render_rays_of(cameras, i, torch.zeros(3))
        depth = surface_depth(seen).cpu()
        opacity = seen.opacity.cpu()
        is_even = _is_even(depth.view(cameras.height, cameras.width)).flatten()
        kept = (opacity > SOLID) & is_even
        rays = cameras.image_rays(i, kept.nonzero().squeeze(-1))
        points.append(rays.rays_o + depth[kept, None] * rays.rays_d)
        colors.append(to_uint8(seen.rgb.cpu()[kept] / opacity[kept, None]))
    return torch.cat(points), torch.cat(colors)


def _is_even(depth: Tensor) -> Tensor:
    """Mask of pixels whose depth (height, width) differs little from all eight neighbors."""
    both = F.pad(torch.stack([depth, -depth])[:, None], (1, 1, 1, 1), mode="replicate")
    highest, negative_lowest = F.max_pool2d(both, 3, stride=1)[:, 0]
    return torch.maximum(highest - depth, depth + negative_lowest) < STEEPEST * depth
