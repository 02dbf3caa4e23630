"""Test views of several runs under each other, the photographs on top, as one picture.

    python benchmarks/contact_sheet.py runs/a runs/b --views r_0 r_40 r_96 --out sheet.png
    python benchmarks/contact_sheet.py runs/kinds/*/*/seed0 --per_scene 2 --views test_3 --out k.png

Takes the pictures that `train.py test` wrote; the runs of a scene must have the same test views,
and all of them the same size. Scenes stand beside each other.
"""

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np

PANELS = 4  # photograph, rendering, depth, opacity beside each other


def panel(run: Path, view: str, number: int) -> np.ndarray:
    picture = iio.imread(run / "test" / f"{view}.png")
    width = picture.shape[1] // PANELS
    return picture[:, number * width : (number + 1) * width]


def sheet(runs: list[Path], views: list[str]) -> np.ndarray:
    """Views from left to right; the photographs on top, and a row for each run."""
    rows = [[panel(runs[0], view, 0) for view in views]]
    rows += [[panel(run, view, 1) for view in views] for run in runs]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--views", nargs="+", required=True, help="names of test views")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per_scene", type=int, help="runs of a scene; all without it")
    args = parser.parse_args()
    n = args.per_scene or len(args.runs)
    scenes = [sheet(args.runs[i : i + n], args.views) for i in range(0, len(args.runs), n)]
    iio.imwrite(args.out, np.concatenate(scenes, axis=1))


if __name__ == "__main__":
    main()
