"""What the benchmarks share: alternated timing, and the JSON line at the end.

Rivals take turns within one run, so that whatever else the machine does meets them alike. Ratios
are the result; times are those of one machine at one moment.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]

# glibc as somebody would set it by hand for big tensors: kept when freed, in huge pages.
TUNED = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=17179869184"
    ":glibc.malloc.trim_threshold=34359738368"
}


def median_seconds(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 30, warmup: int = 3
) -> dict[str, float]:
    """Median time of each candidate; in every round all of them run once."""
    times = seconds_in_turns(candidates, rounds, warmup)
    return {name: statistics.median(t[name] for t in times) for name in candidates}


def seconds_of(candidate: Callable[[], object]) -> float:
    synchronize()
    start = time.perf_counter()
    candidate()
    synchronize()
    return time.perf_counter() - start


def seconds_in_turns(
    candidates: Mapping[Any, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    timed: Callable[[Callable[[], object]], float] = seconds_of,
) -> list[dict[Any, float]]:
    """Seconds of each candidate in each round, all of them in this process."""
    times = [
        {name: timed(candidate) for name, candidate in candidates.items()}
        for _ in range(warmup + rounds)
    ]
    return times[warmup:]


def serve(step: Callable[[], object]) -> None:
    """Take a step whenever a line comes in, and answer with its seconds, until the lines end."""
    while True:
        wait_for_turn()
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        answer(time.perf_counter() - start)


def wait_for_turn() -> None:
    if not sys.stdin.readline():
        sys.exit()


def answer(seconds: float) -> None:
    print(f"seconds {seconds}", file=sys.stderr, flush=True)


def alternate(
    sides: Mapping[Hashable, tuple[Sequence[str], Mapping[str, str]]], rounds: int, warmup: int = 1
) -> list[dict[Any, float]]:
    """Seconds of each side in each round, in a process of its own, as its user would run it.

    Args:
        sides: for each its command line after `python`, and what its environment adds.
        rounds: steps that count; in every round each side takes one.
        warmup: steps before.
    """
    workers = {name: _start(*side) for name, side in sides.items()}
    times = [{n: _step(worker) for n, worker in workers.items()} for _ in range(warmup + rounds)]
    for worker in workers.values():
        worker.kill()
    return times[warmup:]


def median_ratio(times: Sequence[Mapping[Any, float]], side: Hashable, rival: Hashable) -> float:
    """Median over rounds of side / rival, so that a machine whose speed drifts misleads less."""
    return round(statistics.median(t[side] / t[rival] for t in times), 4)


def _start(command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    # Whatever this process was started with, its user starts without.
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=plain | dict(env),
    )


def _step(worker: subprocess.Popen[str]) -> float:
    assert worker.stdin is not None and worker.stderr is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()
    said = []
    for line in worker.stderr:
        if line.startswith("seconds "):
            return float(line.split()[1])
        said.append(line)
    raise RuntimeError("a side of the benchmark ended early:\n" + "".join(said))


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def lego() -> Path | None:
    """The folder of the scene of configs/fast.yaml, if it is there."""
    places = (str(ROOT / "data"), os.environ.get("DIETNERF_DATA"))  # as the reader looks for it
    folders = (Path(place).expanduser() / "nerf_synthetic/lego" for place in places if place)
    return next((folder for folder in folders if folder.is_dir()), None)


def has_lego() -> bool:
    """Whether the scene of configs/fast.yaml is there; what cannot do without takes quickstart."""
    return lego() is not None


def device_name(device: torch.device | str = "cpu") -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def matmul_gflops(device: torch.device | str = "cpu") -> float:
    """The fp32 rate of one layer of an 8x256 MLP: how fast the machine was in this run."""
    n_rows, width = 65_536, 256
    a = torch.rand(n_rows, width, device=device)
    b = torch.rand(width, width, device=device)
    seconds = median_seconds({"matmul": lambda: a @ b}, rounds=10)["matmul"]
    return 2 * n_rows * width * width / seconds / 1e9


def report(
    name: str,
    value: float,
    unit: str,
    baseline: float | None = None,
    *,
    ratio: float | None = None,
    device: torch.device | str = "cpu",
    **extra: object,
) -> None:
    """Print the run's JSON line; a ratio of times, `ratio` is better when smaller."""
    line = {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 4),
        "ratio": ratio,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matmul_gflops": round(matmul_gflops(device), 1),
        **extra,
    }
    print(json.dumps(line))
