"""Look at a finished run in a browser: `dietnerf view runs/demo`."""

import argparse
from pathlib import Path

import torch

from dietnerf.arguments import Parser, number
from dietnerf.devices import usable_device
from dietnerf.errors import exit_on_user_error
from dietnerf.runs.checkpoints import find_checkpoint, load_scene, run_of
from dietnerf.runs.splat_scene import is_splats
from dietnerf.training.runtime import prepare_process
from dietnerf.viewer import Viewer


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = Parser(prog="dietnerf view", description=__doc__)
    what = "folder of a run, a .ckpt file, or a .ply or .splat"
    parser.add_argument("checkpoint", type=Path, help=what)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for the whole network")
    parser.add_argument("--port", type=number(int, 0, 65_535), default=8080)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(args)
    usable_device(options.device, "--device")
    return options


def open_run(options: argparse.Namespace) -> Viewer:
    """A viewer of the run's last checkpoint.

    Raises:
        UserError: there is no checkpoint, it cannot be read, or the port is taken.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    scene = load_scene(checkpoint).to(options.device)
    camera_set = scene.refined_camera_set()
    return Viewer(
        scene.field,
        scene.sampler,
        camera_set.cameras["train"],
        camera_set.background.to(options.device),
        checkpoint if is_splats(checkpoint) else run_of(checkpoint),
        host=options.host,
        port=options.port,
    )


@exit_on_user_error
def main(args: list[str] | None = None) -> None:
    """Serve one run until interrupted; `args` defaults to the command line."""
    options = parse(args)
    prepare_process()
    viewer = open_run(options)
    print(f"The scene is at {viewer.address} until Ctrl-C.{viewer.way}", flush=True)
    try:
        viewer.serve()
    except KeyboardInterrupt:
        viewer.close()


if __name__ == "__main__":
    main()
