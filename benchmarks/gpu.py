"""A GPU from its ceilings to a trained scene: one command, a table, and a JSON file.

    python benchmarks/gpu.py [--out runs/gpu.json] [--lego] [--parts ceilings ops ...]

- ceilings: what the card can do at most: copies, gathers of a hash table's entries and additions to
  them in its cache, matrix products.
- ops: every op of `dietnerf.ops`, forward and backward, at a training step's 2^18 samples; each
  with its reference in plain PyTorch and, where it has the like, nerfacc 0.5.3. `large` is those
  that memory binds at 2^22 samples. The caches are cold; on a GPU, the field is instant-ngp's (8
  levels of 4 numbers in 2^19 entries, networks 64 wide), its table and networks in half precision.
- step, frame, semantic, paper: a training step in `fit` and bare, a frame of 800x800, a semantic
  step, the paper's recipe projected from its steps. `quality` (with `--lego`): seconds to 30 and
  35 dB.

`floor` is the time that the ceilings leave for a kernel's bytes, operations, gathers and additions
(op_cases.py), the longest of them, and `share` is floor / time: 1 is a kernel at its limit. The
ratios are a rival's time over ours. A row that fails says so and does not stop the others.
`--device cpu --small` runs through everything at a tiny size, to see that it does.

nerfacc needs its kernels built for this torch: `pip install --no-build-isolation nerfacc==0.5.3`.
"""

import argparse
import json
import os
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import gpu_card
import op_cases
import ray_cases
import splat_cases
import torch
from common import ROOT, lego
from gpu_rivals import find_nerfacc, nerfacc_runs
from gpu_steps import Steps
from gpu_tables import Row, line, tables
from op_cases import Kernel, Workload

from dietnerf.errors import UserError, exit_on_user_error

PARTS = ("ceilings", "ops", "large", "step", "frame", "semantic", "paper", "quality")
OPS = (
    op_cases.march_rays_kernels,
    ray_cases.composite_kernels,
    ray_cases.distortion_kernels,
    op_cases.hash_encode_kernels,
    op_cases.render_hash_grid_kernels,
    op_cases.trace_hash_grid_kernels,
    ray_cases.sample_pdf_kernels,
    ray_cases.sample_stratified_kernels,
    op_cases.adam_step_kernels,
    splat_cases.eval_sh_kernels,
    splat_cases.project_gaussians_kernels,
    splat_cases.rasterize_gaussians_kernels,
    splat_cases.structural_similarity_kernels,
)
LARGE = OPS[:3]
SAMPLES, LARGE_SAMPLES, SMALL_SAMPLES = 2**18, 2**22, 2**9
SAMPLES_PER_RAY = 15.6  # of the ball
NGP = {
    "log2_table_size": 19, "finest_resolution": 2048, "width": 64, "color_layers": 2,
    "sh_degree": 4,
}  # fmt: skip
TINY = {"log2_table_size": 10, "finest_resolution": 32, "width": 16, "color_layers": 1}


class Bench:
    """All parts on one device; rows and ceilings gather here."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.small = torch.device(args.device), args.small
        self.rounds = 3 if args.small else args.rounds
        self.out = args.out
        self.sizes = TINY if args.small else NGP
        self.n_samples = SMALL_SAMPLES if args.small else SAMPLES
        self.card = gpu_card.describe(self.device)
        self.clock = gpu_card.Clock(self.device)
        self.nerfacc = find_nerfacc(self.device)
        self.steps = Steps(self.device, self.small, self.sizes, self.n_samples, args.fit)
        self.ceilings: dict[str, float] = {}  # per second
        self.rows: list[Row] = []

    def add(self, part: str, name: str, measure: Callable[[], Row]) -> None:
        """Add what is measured as a row, or why that failed; and write everything down."""
        row: Row = {"part": part, "name": name, "card": self.card["device"]}
        try:
            row |= measure()
        except (Exception, SystemExit) as error:  # the command line exits when it is misspelt
            traceback.print_exc()
            row["failed"] = said(error)
        self.rows.append(row)
        print(line(row), flush=True)
        self.write()

    def write(self) -> None:
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            found = {"card": self.card, "rows": self.rows}
            self.out.write_text(json.dumps(found, indent=1) + "\n")

    def note_clocks(self, after: str) -> None:
        self.card |= {f"{n} after {after}": value for n, value in gpu_card.clocks().items()}
        self.write()

    def measure_ceilings(self) -> None:
        for ceiling in gpu_card.ceilings(self.device, self.small):
            self.add("ceilings", ceiling.name, lambda ceiling=ceiling: self._ceiling(ceiling))
        self.note_clocks("ceilings")

    def _ceiling(self, ceiling: gpu_card.Ceiling) -> Row:
        rate, way = gpu_card.measure_ceiling(ceiling, self.clock, self.rounds)
        self.ceilings[ceiling.name] = rate
        return {"rate": rate / ceiling.scale, "unit": ceiling.unit, "way": way}

    def measure_ops(
        self, part: str, n_samples: int, makers: Sequence[Callable[[Workload], list[Kernel]]]
    ) -> None:
        n_rays = round(n_samples / SAMPLES_PER_RAY)
        workload = Workload(n_rays, self.device, half=self.device.type == "cuda", **self.sizes)
        rivals = nerfacc_runs(self.nerfacc, workload) if self.nerfacc else {}
        for kernel in (kernel for make in makers for kernel in make(workload)):
            rival = rivals.get(kernel.name)
            self.add(part, kernel.name, lambda k=kernel, r=rival: self._op(workload, k, r))

    def _op(
        self, workload: Workload, kernel: Kernel, make_rival: Callable[[], op_cases.Run] | None
    ) -> Row:
        row: Row = {"n_samples": workload.n_samples, "n_rays": workload.n_rays}
        runs, makers = {"ms": kernel.run}, {"reference": lambda: kernel.reference}
        if make_rival is not None:
            makers["nerfacc"] = make_rival
        for name, make in makers.items():
            try:
                runs[f"{name}_ms"] = make()
                found = compared(kernel, runs[f"{name}_ms"]())
                row |= {f"{name}_{what}": value for what, value in found.items()}
            except Exception as error:  # a rival's failure is not ours
                runs.pop(f"{name}_ms", None)
                row[f"{name}_failed"] = said(error)
        row |= {n: 1e3 * s for n, s in self.clock.medians(runs, self.rounds).items()}
        row |= {f"{n}_ratio": row[f"{n}_ms"] / row["ms"] for n in makers if f"{n}_ms" in runs}
        return row | self._share(workload, kernel, row["ms"])

    def _share(self, workload: Workload, kernel: Kernel, ms: float) -> Row:
        """What a kernel needs at least of each thing that is limited, and how near it comes."""
        entry = "fp16" if workload.half else "fp32"
        floats, products = kernel.n_flops, kernel.n_network_flops
        amounts = {
            "memory": kernel.n_bytes,
            "float32": floats if workload.half else floats + products,
            "matrix fp16": products if workload.half else 0,
            f"gathers {entry}": kernel.n_gathers,
            "adds fp32": kernel.n_adds,  # gradients are summed in float32
        }
        counted: Row = {
            "mbytes": kernel.n_bytes / 1e6,
            "mflops": (floats + products) / 1e6,
            "mgathers": kernel.n_gathers / 1e6,
            "madds": kernel.n_adds / 1e6,
        }
        floors = {n: 1e3 * a / self.ceilings[n] for n, a in amounts.items() if n in self.ceilings}
        if not floors:
            return counted
        bound = max(floors, key=lambda name: floors[name])
        return counted | {"floor_ms": floors[bound], "bound": bound, "share": floors[bound] / ms}

    def measure_steps(self, parts: Sequence[str], folder: Path) -> None:
        steps, run = self.steps, folder / "fast"
        if {"step", "frame", "semantic", "paper"} & set(parts):
            self.add("step", "training step of the fast field", lambda: steps.fast_step(run))
        if "frame" in parts:
            self.add("frame", "frame", lambda: steps.frame(run))
        if "semantic" in parts:
            self.add(
                "semantic", "semantic step of the fast field", lambda: steps.semantic_step(run)
            )
        if "paper" in parts:
            paper = folder / "paper"
            self.add("paper", "the paper's recipe", lambda: steps.paper_steps(run, paper))
        if "quality" in parts:
            self.add("quality", "time to quality", lambda: steps.quality(folder / "quality"))


def compared(kernel: Kernel, theirs: tuple[torch.Tensor, ...]) -> Row:
    """By how much a rival's results differ; of its marching, how many samples it found."""
    ours = kernel.run()
    if len(theirs) > len(ours):
        return {"samples": len(theirs[0])}
    return {"error": op_cases.error(ours[-len(theirs) :], theirs)}


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def check(args: argparse.Namespace) -> None:
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch sees no GPU here; `--device cpu --small` tries the script out"
        )
    if "quality" not in args.parts or args.small:
        return
    folder = lego()
    if folder is None:
        raise UserError(
            "--lego: nerf_synthetic/lego is not in data/; set DIETNERF_DATA to where it is"
        )
    if not (folder / "transforms_val.json").is_file():  # else it is heard of after all steps
        raise UserError(
            f"--lego: {folder} has no transforms_val.json, whose views say how good training is; "
            "add one, with some of the test views where there are no others"
        )


@exit_on_user_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script out")
    parser.add_argument("--out", type=Path, help="JSON file, written after each row")
    parser.add_argument("--rounds", type=int, default=30, help="of each op; the median counts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--lego", action="store_true", help="also the part `quality`: minutes")
    parser.add_argument(
        "--fit", nargs=argparse.REMAINDER, default=[], help="what follows goes to `train.py fit`"
    )
    args = parser.parse_args()
    args.out = None if args.out is None else args.out.resolve()
    args.parts = [*args.parts, *(["quality"] if args.lego and "quality" not in args.parts else [])]
    check(args)
    os.chdir(ROOT)  # where data/ is
    bench = Bench(args)
    if "ceilings" in args.parts:
        bench.measure_ceilings()
    if "ops" in args.parts:
        bench.measure_ops("ops", bench.n_samples, OPS)
    if "large" in args.parts:
        bench.measure_ops("large", 2 * SMALL_SAMPLES if args.small else LARGE_SAMPLES, LARGE)
    with tempfile.TemporaryDirectory() as folder:
        bench.measure_steps(args.parts, Path(folder))
    bench.note_clocks("all")
    print("\n" + tables(bench.card, bench.rows))
    failed = [row["name"] for row in bench.rows if "failed" in row]
    if failed:
        raise UserError(f"{len(failed)} of {len(bench.rows)} rows failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
