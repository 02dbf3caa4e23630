"""`splats`: the Gaussians of a scene, as a file that other viewers and engines read."""

import argparse

from dietnerf.arguments import path_name
from dietnerf.errors import UserError
from dietnerf.export.paths import add_run_options, load_run, output_of
from dietnerf.gaussians import Gaussians
from dietnerf.gaussians.ply import write_splats
from dietnerf.gaussians.ply_cameras import comments_of
from dietnerf.gaussians.splat import write_splat
from dietnerf.runs.checkpoints import find_checkpoint

ENDINGS = (".ply", ".splat")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `splats`."""
    add_run_options(parser)
    parser.add_argument(
        "--out",
        type=path_name,
        help=".ply, or .splat without view-dependent colors (default: splats.ply in the run)",
    )


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be made.

    Raises:
        UserError: names the option.
    """
    if options.out is not None and options.out.suffix not in ENDINGS:
        raise UserError(f"--out {options.out}: splats are written as .ply or .splat")


def run(options: argparse.Namespace) -> None:
    """Write the splats.

    Raises:
        UserError: the scene is a field.
    """
    out = output_of(options, find_checkpoint(options.checkpoint), "splats.ply")
    scene, camera_set = load_run(options)
    if not isinstance(scene.field, Gaussians):
        raise UserError(
            f"{options.checkpoint} is a {type(scene.field).__name__}, which has no splats: train "
            "Gaussians, --config gaussians, or export a mesh or points"
        )
    if out.suffix == ".ply":
        comments = comments_of(camera_set.cameras["train"], camera_set.background)
        n = write_splats(out, scene.field, comments)
    else:
        n = write_splat(out, scene.field)
    print(f"{out}: {n} splats")
