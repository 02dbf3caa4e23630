"""The card under test: how it is described, how its time is taken, and what it can do at most.

What torch's own kernels reach stands for what the card can do, so a kernel may do better than a
ceiling: entries of a hash table that lie side by side are found in a nearer cache, and torch adds
the numbers of an entry one by one.
"""

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

import torch
from common import device_name, seconds_in_turns
from torch import Tensor

from dietnerf.ops._load import describe_build

QUERY = (
    "driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"
)
FLUSHED = 2**31  # bytes: far more than a cache holds, and half a millisecond to write
REPEATS = 10  # of a ceiling in a row
ROW = 4  # numbers in an entry of the table


class Clock:
    """Seconds of one call, whose caches are cold.

    On a GPU the time between two events of its stream. What clears the caches also takes so long
    that the call's launches queue up behind it: unless the call itself waits for the GPU, Python is
    not part of its time.
    """

    def __init__(self, device: torch.device) -> None:
        self.flushed = None
        if device.type == "cuda":
            self.flushed = torch.empty(FLUSHED, dtype=torch.uint8, device=device)

    def __call__(self, run: Callable[[], object]) -> float:
        if self.flushed is None:
            started = time.perf_counter()
            run()
            return time.perf_counter() - started
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flushed.zero_()
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def medians(
        self, candidates: Mapping[str, Callable[[], object]], rounds: int
    ) -> dict[str, float]:
        """Median seconds of each; in every round all of them run once."""
        times = seconds_in_turns(candidates, rounds, warmup=3, timed=self)
        return {name: median(t[name] for t in times) for name in candidates}


def describe(device: torch.device) -> dict[str, Any]:
    """Name and state of the device, as far as they can be had."""
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "build": describe_build(),
    }
    if device.type != "cuda":
        return found
    card = torch.cuda.get_device_properties(device)
    found |= {
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "memory_gb": round(card.total_memory / 2**30, 1),
        "l2_mb": round(getattr(card, "L2_cache_size", 0) / 2**20, 1),
    }
    return found | clocks()


def clocks() -> dict[str, str]:
    """What nvidia-smi says of driver, clocks, power and temperature now; nothing without it."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = done.stdout.splitlines()[0].split(", ")
    return dict(zip(QUERY.split(","), values, strict=False))


@dataclass(frozen=True)
class Ceiling:
    """A rate that nothing on the card is expected to beat: the best of several ways to reach it.

    Args:
        name: what is limited.
        unit: of the rate.
        scale: a unit's size.
        amount: what one call does.
        ways: to do it.
    """

    name: str
    unit: str
    scale: float
    amount: float
    ways: Mapping[str, Callable[[], object]]


def ceilings(device: torch.device, small: bool) -> list[Ceiling]:
    found = [_copy(device, 2**12 if small else 2**30)]
    n_entries, n_ids = (
        (2**8, 2**10) if small else (2**20, 2**22)
    )  # at most 16 MB: a third of the L2 cache
    ids = torch.randint(n_entries, (n_ids,), device=device)
    for dtype in (torch.float32, torch.float16):
        table = torch.rand(n_entries, ROW, device=device).to(dtype)
        found += [_gathers(table, ids.int()), _adds(table, ids)]
    return found + _products(device, 16 if small else 8192)


def _copy(device: torch.device, n_bytes: int) -> Ceiling:
    source = torch.randint(256, (n_bytes,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return Ceiling(
        "memory", "GB/s", 1e9, 2 * n_bytes, {"copy": lambda: target.copy_(source)}
    )  # read and written


def _gathers(table: Tensor, ids: Tensor) -> Ceiling:
    ways = {"index_select": lambda: table.index_select(0, ids)}
    if table.is_cuda:  # fused with a sum, nothing but the entries is moved
        total = torch.compile(lambda table, ids: table.index_select(0, ids).float().sum())
        ways["compiled sum"] = lambda: total(table, ids)
    return Ceiling(f"gathers {short(table.dtype)}", "G entries/s", 1e9, len(ids), ways)


def _adds(table: Tensor, ids: Tensor) -> Ceiling:
    target, rows = torch.zeros_like(table), torch.rand(len(ids), ROW, device=table.device)
    rows = rows.to(table.dtype)
    wide = ids[:, None].expand(-1, ROW)
    ways = {
        "index_add_": lambda: target.index_add_(0, ids, rows),
        "scatter_add_": lambda: target.scatter_add_(0, wide, rows),
    }
    return Ceiling(f"adds {short(table.dtype)}", "G entries/s", 1e9, len(ids), ways)


def _products(device: torch.device, n: int) -> list[Ceiling]:
    found = []
    for name, dtype, is_tf32 in (
        ("matrix fp16", torch.float16, False),
        ("matrix bf16", torch.bfloat16, False),
        ("matrix tf32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))

        def multiply(left: Tensor = left, right: Tensor = right, tf32: bool = is_tf32) -> None:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.mm(left, right)
            torch.backends.cuda.matmul.allow_tf32 = False

        found.append(Ceiling(name, "TFLOP/s", 1e12, 2 * n**3, {"matmul": multiply}))
    return found


def short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.float16: "fp16"}[dtype]


def measure_ceiling(ceiling: Ceiling, clock: Clock, rounds: int) -> tuple[float, str]:
    """The best rate, per second, and the way that reached it."""
    rates = {}
    for way, run in ceiling.ways.items():
        try:
            seconds = clock.medians({way: lambda run=run: repeated(run)}, rounds)[way]
        except Exception as error:  # a compiler that is not there, a type that is not supported
            print(f"{ceiling.name} by {way}: {error}".splitlines()[0])
            continue
        rates[way] = REPEATS * ceiling.amount / seconds
    best = max(rates, key=lambda way: rates[way])
    return rates[best], best


def repeated(run: Callable[[], object]) -> None:
    for _ in range(REPEATS):
        run()
