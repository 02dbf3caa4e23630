"""Test views of several runs under each other, the photographs on top, as one picture.

    python benchmarks/contact_sheet.py runs/a runs/b --views r_0 r_40 r_96 --out sheet.png

Takes the pictures that `train.py test` wrote; the runs must have the same test views.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--views", nargs="+", required=True, help="names of test views")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [[panel(args.runs[0], view, 0) for view in args.views]]
    rows += [[panel(run, view, 1) for view in args.views] for run in args.runs]
    iio.imwrite(args.out, np.concatenate([np.concatenate(row, axis=1) for row in rows]))


if __name__ == "__main__":
    main()
