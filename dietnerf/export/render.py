"""`render.py`: a checkpoint and a camera path in, a film or pictures out."""

import argparse
from pathlib import Path

import torch

from dietnerf.errors import UserError, exit_on_user_error
from dietnerf.export.film import check_output, write_film
from dietnerf.export.frames import Film, render_frames, render_frames_on
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
from dietnerf.training.checkpoints import find_checkpoint, load_system
from dietnerf.training.process import prepare_process

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
    add("--devices", type=int, default=1, help="GPUs, or processes on the CPU, that share frames")
    add("--background", choices=tuple(BACKGROUNDS), help="default: as trained")
    options = parser.parse_args(args)
    check_path_options(options)
    check_number("fps", options.fps, 1e-3)
    check_number("devices", options.devices, 1)
    check_device(options.device)
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
    devices = _devices(options)
    systems = [load_system(path).to(devices[0]) for path in shown]
    capture = systems[0].refined_capture()
    options.path = options.path or default_path(capture)
    out = options.out or run / f"{options.path}.gif"
    cameras = camera_path(capture, options)
    background = capture.background
    if options.background is not None:
        background = torch.tensor(BACKGROUNDS[options.background])
    film = Film.of(systems, cameras, options.modes, background)
    if len(devices) == 1:
        frames = render_frames(systems, film)
    else:
        frames = render_frames_on(devices, shown, film)
    write_film(frames, out, options.fps)
    print(out)
