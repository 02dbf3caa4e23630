"""All that is done with a run, one after the other in one process, which says how each ended:
`python -m tests.reliability.verbs RUN OUT`."""

import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from dietnerf.errors import exit_on_user_error
from dietnerf.export import command, render
from dietnerf.training import cli
from dietnerf.viewer.__main__ import open_run, parse
from tests.helpers import SMALL_RUN

ROOT = Path(__file__).parents[2]
QUIET = ["--trainer.enable_progress_bar", "false"]
MESH = ["--resolution", "16", "--smallest", "0"]
FILM = ["--frames", "2", "--size", "16", "16"]
Verb = tuple[Callable[[list[str]], None], list[str]]
Ends = dict[str, tuple[int, str]]


@exit_on_user_error
def view(words: list[str]) -> None:
    open_run(parse(words)).close()


def verbs(run: Path, out: Path) -> dict[str, Verb]:
    """One that makes a run, those that write into a run, and those that only read it."""
    of = ["--run", str(run), *QUIET]
    return {
        "fit": (cli.main, ["fit", *SMALL_RUN, "--run", str(out / "new")]),
        "go on": (cli.main, ["fit", *of, "--ckpt_path", "last", "--trainer.max_steps", "204"]),
        "report": (cli.main, ["report", *of]),
        "test": (cli.main, ["test", *of]),
        "predict": (cli.main, ["predict", *of]),
        "film": (render.main, [str(run), *FILM]),
        "validate": (cli.main, ["validate", *of]),
        "gif": (render.main, [str(run), *FILM, "--out", str(out / "film.gif")]),
        "mp4": (render.main, [str(run), *FILM, "--out", str(out / "film.mp4")]),
        "mesh": (command.main, ["mesh", str(run), *MESH, "--out", str(out / "mesh.ply")]),
        "points": (command.main, ["points", str(run), "--out", str(out / "points.ply")]),
        "depth": (command.main, ["depth", str(run), "--path", "test", "--out", str(out / "depth")]),
        "cameras": (command.main, ["cameras", str(run), "--out", str(out / "path.json")]),
        "view": (view, [str(run), "--port", "0"]),
    }


def carried_out(
    run: Path, out: Path, before: Sequence[str] = (), cwd: Path | None = None, **variables: str
) -> Ends:
    """How each ended, in a process that is called with words before it, in a folder, and with
    further variables of the environment."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **os.environ, **variables}
    command_line = [*before, sys.executable, "-m", __name__, str(run), str(out)]
    done = subprocess.run(
        command_line, env=environment, cwd=cwd, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    return {name: (code, said) for name, (code, said) in json.loads(found).items()}


def _outcome(verb: Verb) -> tuple[int, str]:
    """The exit status, 1 for a traceback, and what was said."""
    main, words = verb
    said, status = io.StringIO(), 0
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            main(words)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 0
        except BaseException:
            status = 1
            traceback.print_exc()
    return status, said.getvalue()


if __name__ == "__main__":
    found = verbs(*map(Path, sys.argv[1:]))
    print(json.dumps({name: _outcome(verb) for name, verb in found.items()}))
