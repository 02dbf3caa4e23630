"""Ranges of optimization steps: Lightning's batches, each of which trains several steps."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators.xla import XLAAccelerator
from pytorch_lightning.callbacks import Callback, WeightAveraging

MOST_STEPS = 16  # in a range
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")


class StepRanges(Iterable[range]):
    """Consecutive ranges of steps, from the Trainer's next one on.

    There is no logging, validation or checkpoint inside a range. It has one step with several
    processes, which synchronize between ranges, on a TPU, which compiles the work of a batch, and
    for callbacks that expect a call for each step.

    Args:
        trainer: knows the current step and the last one.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.trainer = trainer

    def __len__(self) -> int:
        """Steps of the run, an upper bound on the number of ranges."""
        return self.trainer.max_steps

    def __iter__(self) -> Iterator[range]:
        while (first := self.trainer.global_step) < self.trainer.max_steps:
            yield range(first, self._end(first))

    def _end(self, first: int) -> int:
        intervals, n_steps = self._intervals(), self.trainer.max_steps
        if intervals is None or first == 0:  # the first step shows how many rays a step can have
            return first + 1
        after = [first - first % n + n for n in intervals]  # the next multiple of each
        return min(first + MOST_STEPS, n_steps, *after)

    def _intervals(self) -> list[int] | None:
        """Intervals in steps of logging, validation and checkpoints; None where each step must be a
        range of its own."""
        trainer: Any = self.trainer
        is_tpu = isinstance(trainer.accelerator, XLAAccelerator)
        # Lightning counts batches by these, and may end with any of them.
        is_limited = trainer.limit_train_batches != 1.0 or trainer.overfit_batches
        if trainer.world_size > 1 or is_tpu or is_limited:
            return None
        if any(map(expects_each_step, trainer.callbacks)):
            return None
        saving = [getattr(callback, "interval", 0) for callback in trainer.callbacks]
        intervals = [trainer.log_every_n_steps, trainer.val_check_batch or 0, *saving]
        return [int(n) for n in intervals if 0 < n < float("inf")]


def expects_each_step(callback: Callback) -> bool:
    """Whether a callback acts on every batch and assumes that it is one step: those of other
    packages and of users, unless they set `takes_ranges = True`."""
    cls = type(callback)
    is_own = cls.__module__.startswith("dietnerf.") or isinstance(callback, WeightAveraging)
    if is_own or getattr(callback, "takes_ranges", False):
        return False
    return any(getattr(cls, hook) is not getattr(Callback, hook) for hook in BATCH_HOOKS)


def is_logged(trainer: pl.Trainer, n_steps: int) -> bool:
    """Whether metrics are logged after `n_steps` steps: logging each step would cost more than a
    small step itself."""
    return n_steps % steps_between_logs(trainer) == 0


def steps_between_logs(trainer: pl.Trainer) -> int:
    return trainer.log_every_n_steps  # type: ignore[attr-defined]


def count_as_batches(trainer: pl.Trainer, n_steps: int) -> None:
    """Advance Lightning's count of batches by the further steps of a range: intervals between
    validations are counted in batches."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    for _ in range(n_steps - 1):
        progress.increment_ready()
        progress.increment_started()
        progress.increment_processed()
        progress.increment_completed()


def count_optimizer_step(trainer: pl.Trainer) -> None:
    """Advance Lightning's count of optimizer steps by one that was part of a CUDA graph."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()
