"""`cameras`: a camera path as JSON, which `render.py --poses` and other programs take."""

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from dietnerf.arguments import path_name
from dietnerf.errors import UserError
from dietnerf.export.paths import (
    add_path_options,
    add_run_options,
    camera_path,
    check_path_options,
    load_run,
    output_of,
)
from dietnerf.export.sight import Unseen
from dietnerf.files import write_file
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.lenses import COEFFICIENTS
from dietnerf.runs.checkpoints import find_checkpoint
from dietnerf.runs.splat_scene import is_splats


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `cameras`."""
    add_run_options(parser)
    add_path_options(parser, default="one that follows the capture")
    parser.add_argument("--out", type=path_name, help=".json (default: cameras.json in the run)")


def check(options: argparse.Namespace) -> None:
    """Check the options.

    Raises:
        UserError: names the option.
    """
    check_path_options(options)
    if options.out is not None and options.out.suffix != ".json":
        raise UserError(f"--out {options.out}: cameras are written as .json")


def run(options: argparse.Namespace) -> None:
    """Write the cameras."""
    checkpoint = find_checkpoint(options.checkpoint)
    if is_splats(checkpoint):
        raise UserError(f"{checkpoint} is a file of splats: name the run that it came from")
    out = output_of(options, checkpoint, "cameras.json")
    scene, camera_set = load_run(options)
    unseen = Unseen(scene, camera_set.cameras["train"])
    write_cameras(camera_path(camera_set, options, unseen.share), out)
    print(out)


def write_cameras(cameras: Cameras, out: Path, **frames: list[Any]) -> None:
    """Write cameras in the manner of `transforms.json`: OpenGL axes, lengths in scene units.

    Args:
        cameras: (n).
        out: file to be written.
        frames: further values of each frame, by name, n each.
    """
    content = {
        "camera_model": "OPENCV",
        "w": cameras.width,
        "h": cameras.height,
        "frames": [
            _frame(cameras, i) | {name: values[i] for name, values in frames.items()}
            for i in range(len(cameras))
        ],
    }
    write_file(out, json.dumps(content, indent=2) + "\n")


def _frame(cameras: Cameras, i: int) -> dict[str, Any]:
    def listed(values: Tensor) -> Any:
        return [round(value, 7) for value in values.double().tolist()]

    (fl_x, fl_y), (cx, cy) = listed(cameras.focal[i]), listed(cameras.center[i])
    lens: dict[str, Any] = {}
    if cameras.distortion is not None and cameras.is_fisheye is not None:
        lens = dict(zip(COEFFICIENTS, listed(cameras.distortion[i]), strict=True))
        lens["camera_model"] = "OPENCV_FISHEYE" if cameras.is_fisheye[i] else "OPENCV"
    matrix = [*cameras.c2w[i].tolist(), [0.0, 0.0, 0.0, 1.0]]
    near, far = float(cameras.near[i]), float(cameras.far[i])
    return {
        "fl_x": fl_x,
        "fl_y": fl_y,
        "cx": cx,
        "cy": cy,
        **lens,
        "near": near,
        "far": far,
        "transform_matrix": matrix,
    }
