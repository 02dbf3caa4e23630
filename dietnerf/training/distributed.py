"""Several devices, each with a process of its own: how they exchange gradients, and split views
among them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, Strategy, StrategyRegistry
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import (
    bf16_compress_hook,
    fp16_compress_hook,
)
from torch.nn.parallel import DistributedDataParallel

from dietnerf.errors import ITEM, SharedError, UserError

Item = TypeVar("Item")
HOOKS = {"ddp_bf16": bf16_compress_hook, "ddp_fp16": fp16_compress_hook}
LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")


class HalfGradients(DDPStrategy):
    """DDP with gradients sent in half precision, also through gloo, which Lightning excludes.

    Args:
        hook: of torch's, which sends them.
        options: of `DDPStrategy`.
    """

    def __init__(self, hook: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.hook = hook

    def configure_ddp(self) -> None:
        super().configure_ddp()
        assert isinstance(self.model, DistributedDataParallel)
        self.model.register_comm_hook(None, self.hook)


def register_strategies() -> None:
    """Let `--trainer.strategy` be `ddp`, or `ddp_bf16` or `ddp_fp16`, which send gradients in half
    precision.

    Sampler and schedules are computed alike on all processes, so that nothing but gradients is
    exchanged: Lightning's own `ddp` would send the occupancy grid in every step. The gradients of a
    small field go in one piece: torch would send the first MB apart.
    """
    options: dict[str, Any] = {
        "override": True,
        "broadcast_buffers": False,
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": 25,  # given explicitly it holds for the first one, too
    }
    StrategyRegistry.register("ddp", DDPStrategy, **options)
    for name, hook in HOOKS.items():
        StrategyRegistry.register(name, HalfGradients, hook=hook, **options)


def check_strategy(name: Any) -> None:
    """Refuse unknown strategies.

    Raises:
        UserError: there is no strategy of that name.
    """
    of_notebooks = ("spawn", "fork", "notebook")  # which copy the model into a process, and fail
    known_names = [
        one
        for one in StrategyRegistry.available_strategies()
        if not any(s in one for s in of_notebooks)
    ]
    if isinstance(name, str) and name not in ("auto", *known_names):
        known = ", ".join(("auto", "ddp", *HOOKS))
        raise UserError(f"there is no --trainer.strategy {name}; use one of {known}")


def check_backend(strategy: Strategy) -> None:
    """Refuse a backend that cannot connect the devices.

    Raises:
        UserError: torch has no such backend, was built without NCCL, which GPUs need, or NCCL is to
            connect CPUs.
    """
    if not isinstance(strategy, DDPStrategy):
        return
    is_gpu, backend = strategy.root_device.type == "cuda", strategy.process_group_backend
    if backend not in (None, "gloo", "nccl"):
        raise UserError(f"process_group_backend is {backend!r:.60}; use gloo or nccl")
    if backend == "nccl" and not is_gpu:
        raise UserError("process_group_backend nccl joins GPUs alone; leave it out on a CPU")
    if is_gpu and backend in (None, "nccl") and not dist.is_nccl_available():
        raise UserError(
            "several GPUs exchange gradients by NCCL, which this torch was built without; install "
            "one that has it (Linux), or use --trainer.devices 1 --trainer.strategy auto"
        )


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Raise on every rank what one rank raised, so that none hangs.

    Where Lightning starts the other processes, the first rank has passed this before; where SLURM
    does, SLURM ends them.

    Raises:
        SharedError: the first error of any rank, on all ranks.
    """
    if not dist.is_torchelastic_launched():
        yield
        return
    store, own_rank, n_ranks = next(dist.rendezvous("env://"))
    own = ""
    try:
        yield
    except Exception as error:
        own = str(error) or type(error).__name__
        if not isinstance(error, UserError):
            raise
    finally:
        store.set(f"mistake of {own_rank}", own)
    for rank in range(n_ranks):
        mistake = store.get(f"mistake of {rank}").decode()  # waits for it
        if mistake:
            origin = "" if rank == 0 else f"process {rank}: "
            raise SharedError(*(origin + mistake).split(ITEM))


def n_processes() -> int:
    return dist.get_world_size() if _is_shared() else 1


def own_shard(n_items: int) -> range:
    """The indices of this process out of `n_items`: every n-th, so that no item occurs twice."""
    return range(dist.get_rank() if _is_shared() else 0, n_items, n_processes())


def all_gather(own: list[Item]) -> list[Item]:
    """The results of all processes for their `own_shard`, in the order of the items, on every
    process.

    A collective: to be called by all processes or none.
    """
    if not _is_shared():
        return own
    shares: list[list[Item]] = [[] for _ in range(n_processes())]
    dist.all_gather_object(shares, own)
    n_items = sum(map(len, shares))
    return [shares[i % len(shares)][i // len(shares)] for i in range(n_items)]


def is_loss_of_a_process(error: BaseException) -> bool:
    """Whether an error means that another process of the run ended."""
    if not _is_shared() or not isinstance(error, RuntimeError):
        return False
    is_reported = isinstance(error, torch.distributed.DistError)
    return is_reported or any(sign in str(error).lower() for sign in LOST)


def shutdown() -> None:
    """Destroy the process group, so that other processes do not wait for this one."""
    if _is_shared():
        dist.destroy_process_group()


def _is_shared() -> bool:
    return dist.is_available() and dist.is_initialized()
