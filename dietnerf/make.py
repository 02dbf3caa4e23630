"""`dietnerf make PHOTOS --out SCENE`: poses, training and a film, one after the other."""

import argparse
import shlex
import sys
from pathlib import Path

from dietnerf.arguments import Parser, number, path_name, typed
from dietnerf.errors import UserError, exit_on_user_error, leaving_on_signals
from dietnerf.files import check_writable
from dietnerf.prepare.quality import QUALITIES

LONGEST = 10_000_000  # steps
MOST_ROWS = 360  # of the film: a CPU takes seconds for a larger frame


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
    if not options.photos.exists():
        raise UserError(f"there is no folder of photos, and no video, {options.photos}")
    check_writable(options.out, "--out")
    return options


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Make a scene and its film; `args` defaults to the command line.

    What an earlier call finished is not done again, and a training that was broken off goes on.
    """
    options = parse(args)
    run, is_placed = options.out / "run", (options.out / "transforms.json").exists()
    if is_placed:
        print(f"1 of 3: {options.out} has the poses already", flush=True)
    else:
        print(f"1 of 3: where the photos of {options.photos} were taken from", flush=True)
    # Torch takes seconds to import, in which nothing could be said.
    from dietnerf.data import Transforms
    from dietnerf.export.render import main as render
    from dietnerf.prepare import command
    from dietnerf.runs.checkpoints import checkpoints_of
    from dietnerf.training.cli import main as train

    if not is_placed:
        of_poses = ["--frames", str(options.frames), "--quality", options.quality]
        command.run(command.parse([*map(str, (options.photos, options.out)), *of_poses]))
    scene = Transforms(str(options.out.resolve()), hold_every=0).listing("train")
    assert scene is not None
    if is_placed:
        _check_same(options.photos, scene.names, options.out)
    goes_on = checkpoints_of(run)
    print(f"2 of 3: training{' goes on' if goes_on else ''}", flush=True)
    words = ["--ckpt_path", "last"] if goes_on else ["--scene", str(options.out)]
    if options.steps is not None:
        words += ["--steps", str(options.steps)]
    try:
        train(["fit", "--run", str(run), *words, "--viewer", str(options.viewer).lower()])
    except SystemExit as ended:
        if ended.code not in (0, 2, None):
            again = shlex.join(map(str, [options.photos, "--out", options.out]))
            print(f"or the whole, with the film: {typed('make')} {again}", file=sys.stderr)
        raise
    name = shlex.quote(str(run))
    print(f"3 of 3: a film; the scene is trained, so `{typed('render')} {name}` can do it later")
    width, height = scene.cameras.width, scene.cameras.height
    rows = min(height, MOST_ROWS)
    render([str(run), "--size", str(max(1, round(width * rows / height))), str(rows)])
    print(f"Fly through it: {typed('view')} {name}. A mesh: {typed('export')} mesh {name}")


def _check_same(photos: Path, names: tuple[str, ...], out: Path) -> None:
    """Refuse to go on with the scene of other photos.

    Raises:
        UserError: none of its views is called as one of them.
    """
    from dietnerf.prepare.photos import VIEW_OF

    taken_from = {VIEW_OF.sub("", name) for name in names}
    if photos.is_dir() and not taken_from & {path.stem for path in photos.iterdir()}:
        raise UserError(f"{out} was made of other photos: name another --out")
