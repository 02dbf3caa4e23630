"""From a checkout to a film: the commands of `make demo`, one after the other, as a user waits.

    python benchmarks/bm_quickstart.py

Each command is a process of its own, read from the Makefile, in a new folder. The value is the time
from the start of training to the end of the GIF; imports, pictures, validation, checkpoints and the
test of all views are in it. There is no rival: it is what docs/speed.md promises. `train_seconds`
is the part that steps took, so what it leaves of `fit_seconds` is start-up, validation and files.

With --steps and --frames the same path is walked in a shorter form, whose numbers say nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, report


def demo_commands(run: Path) -> list[list[str]]:
    """The lines of the Makefile's demo that start Python, for this Python and this folder."""
    recipe = (ROOT / "Makefile").read_text().split("\ndemo:")[1].split("\n\n")[0]
    lines = [line for line in recipe.splitlines() if line.startswith("\t$(BIN)/python")]
    filled = [line.replace("$(DEMO)", str(run)).split() for line in lines]
    return [[sys.executable, *words[1:]] for words in filled]


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="of training, instead of the config's")
    parser.add_argument("--frames", type=int, help="of the film, instead of the Makefile's")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "demo"
        fit, test, render = demo_commands(run)
        if args.steps is not None:
            steps = str(args.steps)
            fit += ["--trainer.max_steps", steps, "--trainer.val_check_interval", steps]
        if args.frames is not None:
            render += ["--frames", str(args.frames)]
        seconds = [seconds_of(command) for command in (fit, test, render)]
        assert (run / "orbit.gif").stat().st_size > 0
        metrics = json.loads((run / "metrics.json").read_text())
    report(
        "quickstart",
        sum(seconds),
        "s",
        **{
            f"{name}_seconds": round(value, 2)
            for name, value in zip(("fit", "test", "render"), seconds, strict=True)
        },
        train_seconds=metrics["train_seconds"],
        steps=metrics["steps"],
        **{
            f"test_{name}": round(value, 4)
            for name, value in metrics["mean"].items()
            if value is not None
        },
    )


if __name__ == "__main__":
    main()
