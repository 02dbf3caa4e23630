"""`render.py`: a checkpoint and a camera path in, a film or pictures out."""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dietnerf.errors import exit_on_user_error
from dietnerf.export.film import check_output, write_film
from dietnerf.export.paths import (
    add_path_options,
    add_run_options,
    camera_path,
    check_device,
    check_number,
    check_path_options,
    default_path,
    results_folder,
)
from dietnerf.files import check_writable
from dietnerf.geometry.cameras import Cameras
from dietnerf.pictures import Mode, depth_range, picture
from dietnerf.training.checkpoints import find_checkpoint, load_system
from dietnerf.training.process import prepare_process
from dietnerf.training.system import DietNeRF

BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5), "black": (0.0, 0.0, 0.0)}


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="render.py", description=__doc__)
    add_run_options(parser)
    add_path_options(parser, default="spiral if all cameras face one way, else orbit")
    add = parser.add_argument
    add("--modes", nargs="+", default=["rgb", "depth"], choices=("rgb", "depth", "opacity"))
    add(
        "--out", type=Path, help=".gif, .mp4, or a folder for PNGs (default: <path>.gif in the run)"
    )
    add("--beside", type=Path, help="another run, shown to the right from the same cameras")
    add("--fps", type=float, default=20)
    add("--background", choices=tuple(BACKGROUNDS), help="default: as trained")
    options = parser.parse_args(args)
    check_path_options(options)
    check_number("fps", options.fps, 1e-3)
    check_device(options.device)
    return options


def render_frames(
    systems: list[DietNeRF], cameras: Cameras, modes: list[Mode], background: Tensor
) -> Iterator[dict[str, Tensor]]:
    """The pictures of one frame after the other, of one system and then the next, with one scale of
    depth colours for all."""
    depths = _depths_along(systems, cameras, background) if "depth" in modes else (0.0, 1.0)
    for i in tqdm(range(len(cameras)), unit="frame", desc="rendering"):
        pictures = {}
        for system, name in zip(systems, ("", "beside_"), strict=False):
            rendering = system.render(cameras, i, background)
            for mode in modes:
                pictures[name + mode] = picture(rendering, mode, cameras.height, depths).cpu()
        yield pictures


def _depths_along(
    systems: list[DietNeRF], cameras: Cameras, background: Tensor
) -> tuple[float, float]:
    """Nearest and farthest depth in small previews of up to eight frames."""
    shrink = max(1, min(cameras.width, cameras.height) // 32)
    small = cameras.resized(cameras.width // shrink, cameras.height // shrink)
    stops = range(0, len(cameras), math.ceil(len(cameras) / 8))
    ranges = [depth_range(s.render(small, i, background)) for s in systems for i in stops]
    seen = [r for r in ranges if r != (0.0, 1.0)] or [(0.0, 1.0)]
    return min(low for low, _ in seen), max(high for _, high in seen)


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Render a checkpoint; `args` defaults to the command line."""
    options = parse(args)
    prepare_process()
    checkpoint = find_checkpoint(options.checkpoint)
    run = results_folder(options.checkpoint, checkpoint)
    out = options.out or run / "film.gif"
    check_output(out)
    check_writable(out.parent if out.suffix else out, "--out")
    shown = [checkpoint] + ([find_checkpoint(options.beside)] if options.beside else [])
    systems = [load_system(path).to(options.device) for path in shown]
    capture = systems[0].refined_capture()
    options.path = options.path or default_path(capture)
    out = options.out or run / f"{options.path}.gif"
    cameras = camera_path(capture, options)
    background = capture.background
    if options.background is not None:
        background = torch.tensor(BACKGROUNDS[options.background])
    write_film(render_frames(systems, cameras, options.modes, background), out, options.fps)
    print(out)
