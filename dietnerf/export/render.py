"""`render.py`: a checkpoint and a camera path in, a film or pictures out."""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dietnerf.data.scene import Capture
from dietnerf.errors import UserError, exit_on_user_error
from dietnerf.export.film import check_output, write_film
from dietnerf.files import check_writable
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import (
    Surroundings,
    face_one_way,
    fly,
    forward_spiral,
    interpolate,
    nearest_neighbour_order,
    orbit,
    rigid,
    spiral,
)
from dietnerf.pictures import Mode, depth_range, picture
from dietnerf.training.checkpoints import find_checkpoint, load_system, run_of
from dietnerf.training.process import prepare_process
from dietnerf.training.system import DietNeRF

AROUND = ("orbit", "spiral")  # paths around the middle of the scene
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="render.py", description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="folder of a run, or a .ckpt file")
    add(
        "--path",
        choices=("orbit", "spiral", "interpolate", "train", "val", "test"),
        help="orbit: around the scene; spiral: the same, or before it if all cameras face one way; "
        "interpolate: through the training cameras, or --poses; train, val, test: the cameras of "
        "that split (default: spiral if all cameras face one way, else orbit)",
    )
    add("--poses", type=Path, help="JSON with frames[].transform_matrix to interpolate through")
    add("--modes", nargs="+", default=["rgb", "depth"], choices=("rgb", "depth", "opacity"))
    add(
        "--out", type=Path, help=".gif, .mp4, or a folder for PNGs (default: <path>.gif in the run)"
    )
    add("--frames", type=int, default=60)
    add("--fps", type=float, default=20)
    add("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="default: as trained")
    add("--background", choices=tuple(BACKGROUNDS), help="default: as trained")
    add(
        "--elevation_deg",
        type=float,
        help="of orbit and spiral (default: the training cameras' mean)",
    )
    add("--radius", type=float, help="of orbit and spiral, scene units (default: their mean)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(args)
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    for name, least in (("frames", 1), ("fps", 1e-3), ("radius", 1e-6)):
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            raise UserError(f"--{name} is {value}; it must be a positive number")
    if options.size and min(options.size) < 1:
        raise UserError(f"--size is {options.size[0]} {options.size[1]}; both must be positive")
    paths_of: dict[str, tuple[str | None, ...]] = {
        "poses": ("interpolate",),
        "radius": (*AROUND, None),
        "elevation_deg": (*AROUND, None),
    }
    for name, paths in paths_of.items():
        if getattr(options, name) is not None and options.path not in paths:
            named = " or ".join(path for path in paths if path)
            raise UserError(f"--{name} goes with --path {named} only")
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {options.device} cannot be used here: {reason}") from error


def camera_path(capture: Capture, options: argparse.Namespace) -> Cameras:
    """The cameras of the frames, at the size asked for."""
    if options.path in ("train", "val", "test"):
        cameras = capture.cameras.get(options.path)
        if cameras is None:
            known = ", ".join(capture.cameras)
            raise UserError(f"--path {options.path}: the checkpoint has cameras of {known} only")
    else:
        cameras = _fly_through(capture.cameras["train"], options)
    return cameras.framed(*options.size) if options.size else cameras


def _fly_through(train: Cameras, options: argparse.Namespace) -> Cameras:
    around = Surroundings.of(train)
    elevation = None if options.elevation_deg is None else math.radians(options.elevation_deg)
    if options.path == "interpolate":
        stops = train.c2w[nearest_neighbour_order(train.positions)]
        if options.poses is not None:
            stops = read_poses(options.poses)
        return fly(train, interpolate(stops, options.frames), around)
    is_around = options.radius is not None or options.elevation_deg is not None
    if options.path == "spiral" and face_one_way(train) and not is_around:
        return train.with_poses(forward_spiral(train, options.frames))
    path = orbit if options.path == "orbit" else spiral
    return fly(train, path(around, options.frames, elevation, options.radius), around)


def read_poses(path: Path) -> Tensor:
    """Camera poses (n, 3, 4) from a JSON in the manner of `transforms.json`.

    Raises:
        UserError: the file is missing or holds no poses.
    """
    try:
        frames = json.loads(path.read_text())["frames"]
        matrices = [frame["transform_matrix"] for frame in frames]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--poses {path}: no frames[].transform_matrix to read in it") from error
    if not matrices:
        raise UserError(f"--poses {path}: its list of frames is empty")
    poses = [rigid(matrix, f"--poses {path}, frame {i}") for i, matrix in enumerate(matrices)]
    return torch.stack(poses)[:, :3].float()


def render_frames(
    system: DietNeRF, cameras: Cameras, modes: list[Mode], background: Tensor
) -> Iterator[dict[str, Tensor]]:
    """The pictures of one frame after the other, with one scale of depth colours for all."""
    depths = _depths_along(system, cameras, background) if "depth" in modes else (0.0, 1.0)
    for i in tqdm(range(len(cameras)), unit="frame", desc="rendering"):
        rendering = system.render(cameras, i, background)
        yield {mode: picture(rendering, mode, cameras.height, depths).cpu() for mode in modes}


def _depths_along(system: DietNeRF, cameras: Cameras, background: Tensor) -> tuple[float, float]:
    """Nearest and farthest depth in small previews of up to eight frames."""
    shrink = max(1, min(cameras.width, cameras.height) // 32)
    small = cameras.resized(cameras.width // shrink, cameras.height // shrink)
    stops = range(0, len(cameras), math.ceil(len(cameras) / 8))
    ranges = [depth_range(system.render(small, i, background)) for i in stops]
    seen = [r for r in ranges if r != (0.0, 1.0)] or [(0.0, 1.0)]
    return min(low for low, _ in seen), max(high for _, high in seen)


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Render a checkpoint; `args` defaults to the command line."""
    options = parse(args)
    prepare_process()
    checkpoint = find_checkpoint(options.checkpoint)
    run = run_of(checkpoint)
    out = options.out or run / "film.gif"
    check_output(out)
    check_writable(out.parent if out.suffix else out, "--out")
    system = load_system(checkpoint).to(options.device)
    capture = system.refined_capture()
    if options.path is None:
        options.path = "spiral" if face_one_way(capture.cameras["train"]) else "orbit"
    out = options.out or run / f"{options.path}.gif"
    cameras = camera_path(capture, options)
    background = capture.background
    if options.background is not None:
        background = torch.tensor(BACKGROUNDS[options.background])
    write_film(render_frames(system, cameras, options.modes, background), out, options.fps)
    print(out)
