"""The CPU's kernels under sanitizers: fuzzed op by op, and run on threads that are watched.

`python -m tests.reliability.sanitized` puts a million cases to the ops (make fuzz).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FUZZED = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize=vptr,function")
WATCHED = ("-fsanitize=thread", "-pthread")
# Of a million cases: a field takes longer than a ray.
SHARES = {
    "adam_step": 0.13,
    "composite": 0.15,
    "distortion": 0.15,
    "eval_sh": 0.02,
    "hash_encode": 0.1,
    "march_rays": 0.08,
    "render_hash_grid": 0.04,
    "sample_pdf": 0.15,
    "sample_stratified": 0.16,
    "structural_similarity": 0.02,
}


@dataclass(frozen=True)
class Tried:
    """What became of the cases of one op; `said` is the report of a crash."""

    op: str
    n_cases: int
    n_answered: int
    has_crashed: bool
    seconds: float
    said: str

    def __str__(self) -> str:
        crashes = int(self.has_crashed)
        return (
            f"{self.op:<21} {self.n_cases:>8} cases, {self.n_answered:>8} answered, "
            f"{crashes} crashes, {self.seconds:6.1f} s"
        )


def find_compiler() -> str | None:
    return os.environ.get("CLANGXX") or shutil.which("clang++")


def build(source: str, flags: tuple[str, ...], target: Path, root: Path = ROOT) -> None:
    """Compile a file of this folder, together with csrc of `root`."""
    from torch.utils.cpp_extension import include_paths, library_paths

    compiler = find_compiler()
    assert compiler is not None
    command = [compiler, "-w", "-O1", "-g", "-std=c++17", *flags, "-fno-sanitize-recover=all"]
    command += ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command += [f"-I{folder}" for folder in (root, *include_paths())]
    command += [str(ROOT / "tests/reliability" / source), "-o", str(target)]
    for folder in library_paths():
        command += [f"-L{folder}", f"-Wl,-rpath,{folder}"]
    subprocess.run([*command, "-ltorch_cpu", "-lc10"], check=True, cwd=root)


def fuzz(program: Path, op: str, n_cases: int, folder: Path, seed: int = 1) -> Tried:
    """Put so many cases to an op; an input that crashes it is left in `folder`."""
    options = {
        "runs": n_cases,
        "seed": seed,
        "max_len": 512,
        "len_control": 0,
        "timeout": 60,
        # Memory that is not there is refused as malloc refuses it, without a report.
        "rss_limit_mb": 4096,
        "malloc_limit_mb": 1_000_000,
        "print_final_stats": 1,
    }
    environment = {
        "DIETNERF_FUZZED": op,
        "OMP_NUM_THREADS": "1",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    begin = time.monotonic()
    done = subprocess.run(
        [program, *(f"-{k}={v}" for k, v in options.items()), f"-artifact_prefix={folder}/{op}-"],
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | environment,
    )
    answered = re.search(r"^answered: (\d+)", done.stderr, re.MULTILINE)
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    return Tried(
        op,
        int(executed[1]) if executed else 0,
        int(answered[1]) if answered else 0,
        done.returncode != 0,
        time.monotonic() - begin,
        done.stderr[-6000:] if done.returncode else "",
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000, help="in all, over the ops")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="for what crashes")
    options = parser.parse_args()
    if find_compiler() is None:
        print("clang++ was not found; on Debian and Ubuntu: apt install clang", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    n_crashed = 0
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fuzz"
        build("fuzz_ops.cpp", FUZZED, program)
        for op, share in SHARES.items():
            tried = fuzz(program, op, round(options.cases * share), options.out, options.seed)
            print(tried, tried.said, sep="\n" if tried.has_crashed else "", flush=True)
            n_crashed += tried.has_crashed
    return 1 if n_crashed else 0


if __name__ == "__main__":
    sys.exit(main())
