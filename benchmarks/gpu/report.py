"""What the prepared run on a GPU brought back, as rows of the docs.

    python benchmarks/gpu/report.py FOLDER... [--out docs/kernels.md]

Reads the JSON files and test results in the folders, those of both calls, and prints Markdown:
which tests failed, the tables of all parts with card and date, and rows for docs/speed.md.
With --out the tables take the place of a page's part `## Measured on a GPU`, or are added.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from gpu_tables import Row, number, tables
from kernel_resources import MEASURED, with_measured

from dietnerf.errors import UserError, exit_on_user_error

OUTCOMES = ("failure", "error", "skipped")  # as JUnit calls them; else a test has passed
COMMAND = "`benchmarks/gpu/run.sh`"
# Rows of docs/speed.md: what a part is called there, and its figures.
SPEED = {
    "step": ("a training step of `gpu.yaml`'s field in `fit` (bare)", "{ms} ms ({bare_ms} ms)"),
    "frame": ("a frame of {side}x{side}, the median (the worst)", "{ms} ms ({worst_ms} ms)"),
    "quality": (
        "seconds of training to 30 / 35 dB on lego at 800x800",
        "{seconds_to_30_db} / {seconds_to_35_db}; {psnr} dB after {seconds} s",
    ),
    "semantic": ("a semantic step at {side}x{side} with ViT-B/32", "{ms} ms"),
    "paper": ("the paper's recipe, by its steps", "{projected_minutes} minutes"),
}


def read(folders: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Card and rows of each file of figures."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        found = json.loads(path.read_text())
        if not {"card", "rows"} <= found.keys():
            raise UserError(f"{path} was not written by benchmarks/gpu.py")
        yield found


def tests(folders: Sequence[Path]) -> list[str]:
    """A line for each file of test results, and one for each test that failed."""
    lines = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.xml"))):
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
        kinds = [next((c.tag for c in case if c.tag in OUTCOMES), "passed") for case in cases]
        counts = {kind: kinds.count(kind) for kind in ("passed", *OUTCOMES) if kind in kinds}
        lines.append(f"{path.name}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
        bad = (c for c, kind in zip(cases, kinds, strict=True) if kind in ("failure", "error"))
        lines += [f"- {case.get('classname')}::{case.get('name')}" for case in bad]
    return lines


def speed_rows(found: dict[str, Any]) -> list[str]:
    """Rows for docs/speed.md, of parts that were measured whole."""
    card, lines = found["card"], []
    for row in found["rows"]:
        if row["part"] in SPEED and "failed" not in row:
            values = {name: number(value) or "not reached" for name, value in row.items()}
            what, figures = (text.format_map(values) for text in SPEED[row["part"]])
            where = f"{card['device']}, {card['date']}"
            lines.append(f"| {what} | {figures} ({where}) | {COMMAND} |")
    return lines


def measured(all_found: Sequence[dict[str, Any]]) -> str:
    """The tables of each file of figures."""
    parts: list[str] = [tables(found["card"], rows_of(found)) for found in all_found]
    return f"{MEASURED}\n" + "\n\n".join(parts) + "\n"


def rows_of(found: dict[str, Any]) -> list[Row]:
    rows: list[Row] = found["rows"]
    return rows


@exit_on_user_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, help="a page that takes the tables")
    args = parser.parse_args()
    found = list(read(args.folders))
    if not found:
        raise UserError(f"no figures (*.json) in {', '.join(map(str, args.folders))}")
    rows = [line for one in found for line in speed_rows(one)]
    print("\n".join([*tests(args.folders), "", measured(found), *rows]))
    if args.out is not None:
        if not all("capability" in one["card"] for one in found):
            raise UserError("these are figures of a rehearsal, not of a GPU: they are for no page")
        page = args.out.read_text() if args.out.exists() else ""
        args.out.write_text(with_measured(page, measured(found)))


if __name__ == "__main__":
    main()
