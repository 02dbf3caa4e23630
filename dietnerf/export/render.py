"""`render.py`: renders a checkpoint along a camera path as a film or as images."""

import argparse
import warnings
from contextlib import closing
from pathlib import Path

import torch

from dietnerf.arguments import Parser, number, path_name
from dietnerf.devices import usable_device
from dietnerf.errors import UserError, exit_on_user_error, leaving_on_signals
from dietnerf.export.film import check_film, check_output, write_film
from dietnerf.export.fog import warn_of_fog
from dietnerf.export.frames import RenderJob, render_frames, render_frames_on
from dietnerf.export.paths import (
    SPLITS,
    add_path_options,
    add_run_options,
    camera_path,
    check_memory,
    check_path_options,
    default_output,
)
from dietnerf.export.sight import Unseen
from dietnerf.files import remove_parts
from dietnerf.geometry.camera_paths import MOST_UNSEEN
from dietnerf.geometry.cameras import Cameras
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.training.runtime import prepare_process

LARGEST_GIF = 400  # pixels along the longer side, above which an MP4 is much smaller
MOST_ROWS = 720  # largest height of a film by default
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "gray": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = Parser(prog="dietnerf render", description=__doc__)
    add_run_options(parser)
    add_path_options(parser, default="one that follows the capture")
    add = parser.add_argument
    add(
        "--modes",
        nargs="+",
        default=["rgb"],
        choices=("rgb", "depth", "opacity"),
        help="pictures side by side (default: rgb)",
    )
    add(
        "--out",
        type=path_name,
        help=".gif, .mp4, or a folder for PNGs (default: <path>.mp4 in the run, or .gif up to "
        f"{LARGEST_GIF} pixels)",
    )
    add("--beside", type=path_name, help="another run, shown to the right from the same cameras")
    add("--fps", type=number(float, 0.01, 1000), default=20)
    add(
        "--devices",
        type=number(int, 1, 256),
        default=1,
        help="GPUs, or processes on the CPU, that share frames",
    )
    add("--background", choices=tuple(BACKGROUNDS), help="default: as trained")
    options = parser.parse_args(args)
    check_path_options(options)
    usable_device(options.device, "--device")
    return options


def _devices(options: argparse.Namespace) -> list[str]:
    """The names of the devices that render, one a process."""
    if torch.device(options.device).type != "cuda" or options.devices == 1:
        return [options.device] * options.devices
    n_there = torch.cuda.device_count()
    if options.devices > n_there:
        raise UserError(f"--devices is {options.devices}, but there are {n_there} GPUs")
    return [f"cuda:{i}" for i in range(options.devices)]


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Render a checkpoint; `args` defaults to the command line."""
    options = parse(args)
    prepare_process()
    if options.out is not None:
        check_output(options.out)
    shown = [find_checkpoint(options.checkpoint)]
    if options.beside is not None:
        shown.append(find_checkpoint(options.beside))
    devices = _devices(options)
    scenes = [load_scene(checkpoint).to(devices[0]) for checkpoint in shown]
    camera_set = scenes[0].refined_camera_set()
    unseen = Unseen(scenes[0], camera_set.cameras["train"])
    cameras = _of_a_film(camera_path(camera_set, options, unseen.share), options)
    out = _output(options, shown, cameras)
    if options.path not in SPLITS:
        _warn_of_unseen(unseen.share(cameras), options.path)
        warn_of_fog(scenes[0], "the film")
    background = camera_set.background
    if options.background is not None:
        background = torch.tensor(BACKGROUNDS[options.background])
    film = RenderJob.of(scenes, cameras, options.modes, background)
    if len(devices) == 1:
        frames = render_frames(scenes, film)
    else:
        frames = render_frames_on(devices, shown, film)
    with closing(frames):  # which ends the progress bar before further output
        write_film(frames, out, options.fps)
    print(out)


def _output(options: argparse.Namespace, shown: list[Path], cameras: Cameras) -> Path:
    """The path of the film, after checks that it can be written.

    Raises:
        UserError: it cannot be.
    """
    is_small = max(cameras.width, cameras.height) <= LARGEST_GIF
    name = f"{options.path}{'.gif' if is_small else '.mp4'}"
    out: Path = options.out or default_output(options.checkpoint, shown[0], name)
    check_output(out)
    n_pictures = len(set(options.modes)) * len(shown)
    check_film(out, n_pictures * cameras.width, cameras.height, options.fps)
    check_memory(cameras, 0)
    remove_parts(out.parent if out.suffix else out)
    return out


def _of_a_film(cameras: Cameras, options: argparse.Namespace) -> Cameras:
    """The cameras, with at most 720 rows for a film whose size was not chosen."""
    is_film = options.out is None or options.out.suffix
    if options.size or not is_film or cameras.height <= MOST_ROWS:
        return cameras
    return cameras.resized(max(1, round(cameras.width * MOST_ROWS / cameras.height)), MOST_ROWS)


def _warn_of_unseen(share: float, path: str) -> None:
    if share > MOST_UNSEEN:
        others = " or ".join(other for other in ("walk", "swing", "sway") if other != path)
        warnings.warn(
            f"{share:.0%} of the film's pixels show what no training camera saw: --path {others} "
            "may stay closer to the cameras",
            stacklevel=2,
        )
