"""`dietnerf make PHOTOS --out SCENE`: poses, training and a film, one after the other."""

import argparse
import shlex

from dietnerf.arguments import Parser, number, path_name
from dietnerf.errors import exit_on_user_error, leaving_on_signals
from dietnerf.files import check_writable
from dietnerf.prepare.quality import QUALITIES

LONGEST = 10_000_000  # steps


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = Parser(prog="dietnerf make", description=__doc__)
    add = parser.add_argument
    add("photos", type=path_name, help="folder of photos, or a video file")
    add("--out", type=path_name, required=True, help="folder for the scene, its run and its film")
    add("--frames", type=number(int, 3, 10_000), default=40, help="taken of a video (default: 40)")
    add("--quality", choices=QUALITIES, default="normal", help="of the poses (default: normal)")
    add("--steps", type=number(int, 1, LONGEST), help="of the training (default: the preset's)")
    add("--viewer", action="store_true", help="watch it in a browser while it trains")
    options = parser.parse_args(args)
    check_writable(options.out, "--out")
    return options


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Make a scene and its film; `args` defaults to the command line.

    What an earlier call finished is not done again, and a training that was broken off goes on.
    """
    options = parse(args)
    from dietnerf.export.render import main as render
    from dietnerf.prepare.command import main as prepare
    from dietnerf.training.checkpoints import checkpoints_of
    from dietnerf.training.cli import main as train

    run = options.out / "run"
    if (options.out / "transforms.json").exists():
        print(f"1 of 3: {options.out}/transforms.json has the poses already", flush=True)
    else:
        print(f"1 of 3: where the photos of {options.photos} were taken from", flush=True)
        of_poses = ["--frames", str(options.frames), "--quality", options.quality]
        prepare([str(options.photos), str(options.out), *of_poses])
    print("2 of 3: training", flush=True)
    words = ["fit", "--run", str(run)]
    if checkpoints_of(run):
        words += ["--ckpt_path", "last"]
    else:
        words += ["--scene", str(options.out)]
    if options.steps is not None:
        words += ["--steps", str(options.steps)]
    train([*words, "--viewer", str(options.viewer).lower()])
    print("3 of 3: a film", flush=True)
    render([str(run)])
    name = shlex.quote(str(run))
    print(f"Fly through it: dietnerf view {name}. A mesh: dietnerf export mesh {name}")
