"""`dietnerf make PHOTOS --out SCENE`: poses, training and a film, one after the other."""

import argparse
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from dietnerf.arguments import Parser, number, path_name, typed, with_values
from dietnerf.errors import UserError, exit_on_user_error, leaving_on_signals
from dietnerf.files import check_writable
from dietnerf.prepare.quality import CHOICES, QUALITIES

LONGEST = 10_000_000  # steps
MOST_MINUTES = 100_000
MOST_DOWNSCALE = 1000
MOST_ROWS = 360  # of the film of a field: a CPU takes seconds for a larger frame
MOST_FRAMES = 100_000  # of the film
USED_UP = 0.95  # of the minutes, after which no step would be taken that counts


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = Parser(prog="dietnerf make", description=__doc__)
    add = parser.add_argument
    add("photos", type=path_name, help="folder of photos, or a video file")
    add("--out", type=path_name, required=True, help="folder for the scene, its run and its film")
    add("--frames", type=number(int, 3, 10_000), default=40, help="taken of a video (default: 40)")
    add("--quality", choices=QUALITIES, default="normal", help="of the poses (default: normal)")
    add("--panorama", choices=CHOICES, default="auto", help="360-degree pictures (default: auto)")
    add("--downscale", type=_downscale, default="auto", help="smaller photos to train on")
    length = parser.add_mutually_exclusive_group()
    add = length.add_argument
    add("--steps", type=number(int, 1, LONGEST), help="of the training (default: the preset's)")
    add("--minutes", type=number(float, 0.01, MOST_MINUTES), help="of the training, instead")
    add = parser.add_argument
    add("--viewer", type=_yes_or_no, default="false", help="watch it in a browser while it trains")
    film = parser.add_mutually_exclusive_group()
    add = film.add_argument
    add("--film_frames", type=number(int, 1, MOST_FRAMES), help="of the film (default: 60)")
    add("--no_film", "--no-film", action="store_true", help="leave the film out")
    words = sys.argv[1:] if args is None else args
    options = parser.parse_args(with_values(words, "--viewer"))
    if not options.photos.exists():
        raise UserError(f"there is no folder of photos, and no video, {options.photos}")
    check_writable(options.out, "--out")
    return options


def _downscale(text: str) -> str:
    with suppress(argparse.ArgumentTypeError):
        return str(number(float, 1, MOST_DOWNSCALE)(text))
    if text != "auto":
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither auto nor a number from 1 to {MOST_DOWNSCALE}"
        )
    return text


def _yes_or_no(text: str) -> str:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Make a scene and its film; `args` defaults to the command line.

    What an earlier call finished is not done again, and a training that was broken off goes on.
    """
    options = parse(args)
    run, n_parts = options.out / "run", 2 if options.no_film else 3
    if is_placed := (options.out / "transforms.json").exists():
        print(f"1 of {n_parts}: {options.out} has the poses already", flush=True)
    else:
        print(f"1 of {n_parts}: where the photos of {options.photos} were taken from", flush=True)
    # Torch takes seconds to import, in which nothing could be said.
    from dietnerf.data import Transforms
    from dietnerf.runs.checkpoints import checkpoints_of

    if not is_placed:
        _place(options)
    scene = Transforms(str(options.out.resolve()), hold_every=0).listing("train")
    assert scene is not None
    if is_placed:
        _check_same(options.photos, scene.names, options.out)
    goes_on = bool(checkpoints_of(run))
    print(f"2 of {n_parts}: training{' goes on' if goes_on else ''}", flush=True)
    _train(options, run, goes_on)
    name = shlex.quote(str(run))
    if options.no_film:
        print(f"A film: {typed('render')} {name}")
    else:
        print(
            f"3 of 3: a film; the scene is trained, so `{typed('render')} {name}` can do it later"
        )
        _film(options, run, scene.cameras.width, scene.cameras.height)
    print(f"Fly through it: {typed('view')} {name}. A mesh: {typed('export')} mesh {name}")


def _place(options: argparse.Namespace) -> None:
    """Find the poses."""
    from dietnerf.prepare import command

    chosen = {name: getattr(options, name) for name in ("frames", "quality", "panorama")}
    words = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    command.run(command.parse([str(options.photos), str(options.out), *words]))


def _train(options: argparse.Namespace, run: Path, goes_on: bool) -> None:
    """Train the scene, from its last checkpoint if there is one."""
    from dietnerf.training.cli import main as train

    minutes = options.minutes
    if goes_on and minutes is not None and _minutes_of(run) >= USED_UP * minutes:
        print(
            f"the {minutes:g} minutes of --minutes are used up: --minutes {2 * minutes:g} goes on"
        )
        return
    words = ["--ckpt_path", "last"]
    if not goes_on:  # else photos stay as large as the run has them
        words = ["--scene", str(options.out), "--downscale", options.downscale]
    if options.steps is not None:
        words += ["--steps", str(options.steps)]
    if minutes is not None:
        words += ["--minutes", str(minutes)]
    try:
        train(["fit", "--run", str(run), *words, "--viewer", options.viewer])
    except SystemExit as ended:
        if ended.code not in (0, 2, None):
            again = shlex.join(map(str, [options.photos, "--out", options.out]))
            print(f"or the whole, with the film: {typed('make')} {again}", file=sys.stderr)
        raise


def _minutes_of(run: Path) -> float:
    """How long a run was trained."""
    from dietnerf.history import History
    from dietnerf.runs.checkpoints import find_checkpoint, read_checkpoint

    history = read_checkpoint(find_checkpoint(run))["dietnerf"].get("history")
    return History.from_dict(history).seconds / 60


def _film(options: argparse.Namespace, run: Path, width: int, height: int) -> None:
    """Render the film of a scene whose photos have that size."""
    from dietnerf.export.render import main as render

    words = [] if _is_of_gaussians(run) else _small_size(width, height)
    if options.film_frames is not None:
        words += ["--frames", str(options.film_frames)]
    render([str(run), *words])


def _is_of_gaussians(run: Path) -> bool:
    """Whether a run is a scene of Gaussians, whose frames take hundredths of a second."""
    from dietnerf.runs.configs import config_of, read_config

    model = read_config(config_of(run)).get("model")
    field = model.get("field") if isinstance(model, dict) else None
    return isinstance(field, dict) and str(field.get("class_path")).endswith(".Gaussians")


def _small_size(width: int, height: int) -> list[str]:
    rows = min(height, MOST_ROWS)
    return ["--size", str(max(1, round(width * rows / height))), str(rows)]


def _check_same(photos: Path, names: tuple[str, ...], out: Path) -> None:
    """Refuse to go on with the scene of other photos.

    Raises:
        UserError: none of its views is called as one of them.
    """
    from dietnerf.prepare.photos import VIEW_OF

    taken_from = {VIEW_OF.sub("", name) for name in names}
    if photos.is_dir() and not taken_from & {path.stem for path in photos.iterdir()}:
        raise UserError(f"{out} was made of other photos: name another --out")
