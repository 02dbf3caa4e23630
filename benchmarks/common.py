"""What the benchmarks share: alternated timing, and the JSON line at the end.

Rivals take turns within one run, so that whatever else the machine does meets them alike. Ratios
are the result; times are those of one machine at one moment.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def median_seconds(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 30, warmup: int = 3
) -> dict[str, float]:
    """Median time of each candidate; in every round all of them run once."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for step in range(warmup + rounds):
        for name, candidate in candidates.items():
            synchronize()
            start = time.perf_counter()
            candidate()
            synchronize()
            if step >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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
    device: torch.device | str = "cpu",
    **extra: object,
) -> None:
    """Print the run's JSON line; `ratio` is value / baseline, so for times smaller is better."""
    line = {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 4),
        "ratio": None if baseline is None else round(value / baseline, 4),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matmul_gflops": round(matmul_gflops(device), 1),
        **extra,
    }
    print(json.dumps(line))
