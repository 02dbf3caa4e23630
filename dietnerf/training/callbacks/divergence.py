"""Divergence of training: steps with non-finite values, and fields that collapse to a blank
image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from dietnerf.errors import SharedError
from dietnerf.runs.checkpoints import latest_before
from dietnerf.synchronization import is_sync_free
from dietnerf.training.ray_stats import RayStats
from dietnerf.training.steps import is_logged
from dietnerf.training.system import DietNeRF

MAX_IN_A_ROW = 20  # skipped steps; a loss scale for half precision needs up to 16 to settle
RATE_FACTOR = 0.25  # of the learning rate after a restart from a checkpoint
COLLAPSED_STEPS, COLLAPSED_SHARE = (
    500,
    0.05,
)  # steps of blank images: the larger
BLANK = 1e-3  # mean opacity, or mean transparency, of a blank image
FIRST_LOOK = 100  # step from which on a blank image is warned of
OPAQUE, AT_NEAR = 0.95, 1.05  # mean opacity, and share of rays; depth of what is at near, by that
IF_IT_STAYS = "if it stays so, check the reader's near and far, and the poses, with `report`"
FLAT, VARIED = 1e-5, 1e-3  # variance of colors that are uniform, and that are not


class RestartTraining(Exception):
    """Training diverged in a way that another attempt may avoid.

    Args:
        sentence: what happened, and what is done about it.
        checkpoint: where the next attempt resumes; None begins anew.
        rate_factor: of its learning rate.
        seed: of a new beginning; None keeps it.
    """

    def __init__(
        self,
        sentence: str,
        checkpoint: Path | None = None,
        rate_factor: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.checkpoint = checkpoint
        self.rate_factor = rate_factor
        self.seed = seed


@dataclass
class NonFiniteCounter:
    """Counts skipped steps on the device, so that the host does not wait for it.

    Args:
        in_a_row: skipped since the last good one, int64, ().
        total: skipped in all, int64, ().
        first: what was finite in the first of them, bool, (n_values,).
    """

    in_a_row: Tensor
    total: Tensor
    first: Tensor

    @classmethod
    def of(cls, n_values: int, device: torch.device) -> "NonFiniteCounter":
        in_a_row, total = torch.zeros(2, dtype=torch.long, device=device)
        return cls(in_a_row, total, torch.ones(n_values, dtype=torch.bool, device=device))

    def add(self, is_finite: Tensor, is_good: Tensor) -> None:
        """In place, so that it can be part of a CUDA graph."""
        self.first.copy_(torch.where(self.total == 0, is_finite, self.first))
        self.in_a_row.copy_(torch.where(is_good, 0, self.in_a_row + 1))
        self.total.add_(~is_good)


class NaNGuard(Callback):
    """Skips steps whose gradient is not finite, and ends training by a `RestartTraining` after too
    many of them in a row, or when images stay blank.

    On a CPU a skipped step changes nothing; on other devices, where reading the result would wait,
    its gradient is set to zero.

    Args:
        run: folder of the run.
        restart: what ended the attempt before this one.
    """

    def __init__(self, run: Path | str, restart: RestartTraining | None = None) -> None:
        self.run = Path(run)
        self.restart = restart
        self._counter: NonFiniteCounter | None = None
        self._blank_since: int | None = None
        self._has_spoken = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DietNeRF)
        self._parameters = dict(pl_module.named_parameters())
        self._zero = torch.zeros((), device=pl_module.device)
        if self.restart is None:
            return
        history = pl_module.history
        history.rate_factor *= self.restart.rate_factor
        history.has_restarted |= self.restart.seed is not None
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= self.restart.rate_factor

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        assert isinstance(pl_module, DietNeRF)
        grads = [p.grad for p in self._parameters.values()]
        # One pass over each: a finite sum has finite terms.
        sums = torch.stack([self._zero if grad is None else grad.sum() for grad in grads])
        losses = pl_module.last_losses
        is_finite = torch.cat([losses, sums]).isfinite()
        is_good = is_finite[len(losses) :].all()  # the same on all processes
        if self._counter is None:
            self._counter = NonFiniteCounter.of(len(is_finite), is_finite.device)
        self._counter.add(is_finite, is_good)
        if not is_sync_free(is_good.device):
            for grad in grads:
                if grad is not None:
                    grad.masked_fill_(~is_good, 0)
        elif not is_good:
            optimizer.zero_grad()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, DietNeRF)
        if not is_logged(trainer, trainer.global_step):
            return
        if self._counter is not None:
            pl_module.record({"train/skipped_steps": self._counter.total.float()})
            if int(self._counter.in_a_row) >= MAX_IN_A_ROW:
                self._go_back(trainer, pl_module, self._counter)
        self._look(trainer, pl_module)

    def _go_back(self, trainer: pl.Trainer, system: DietNeRF, counter: NonFiniteCounter) -> None:
        begun = trainer.global_step - int(counter.in_a_row)
        names = [*system.objective.names, *(f"the gradient of {name}" for name in self._parameters)]
        first = [name for name, good in zip(names, counter.first.tolist(), strict=True) if not good]
        what = (
            f"{int(counter.in_a_row)} steps in a row, from step {begun} on, were skipped because "
            f"their numbers are not finite; the first that were not: {_listed(first)}"
        )
        if trainer.world_size > 1 or system.history.rate_factor < 1:
            raise SharedError(f"{what}; choose a lower learning rate")
        checkpoint = latest_before(self.run, begun)
        place = "the beginning" if checkpoint is None else str(checkpoint)
        sentence = f"{what}; going back to {place} with {RATE_FACTOR} times the learning rate"
        raise RestartTraining(sentence, checkpoint, RATE_FACTOR)

    def _look(self, trainer: pl.Trainer, system: DietNeRF) -> None:
        step, stats = trainer.global_step, system.ray_stats and system.ray_stats.cpu()
        if stats is not None and not self._has_spoken and step >= FIRST_LOOK:
            self._has_spoken = True
            if fault := fault_of(stats):
                rank_zero_warn(f"after {step} steps {fault}; {IF_IT_STAYS}")
        if stats is None or not is_collapsed(stats):
            self._blank_since = None
            return
        if self._blank_since is None:
            self._blank_since = step
        patience = max(COLLAPSED_STEPS, math.ceil(COLLAPSED_SHARE * trainer.max_steps))
        if step - self._blank_since < patience:
            return
        what = f"the picture has been blank since step {self._blank_since}: the field collapsed"
        if trainer.world_size > 1 or system.history.has_restarted:
            rank_zero_warn(
                f"{what}; check near and far, or try another seed_everything or a lower "
                "learning rate"
            )
            self._blank_since = None
            return
        seed = system.history.seed + 1
        raise RestartTraining(
            f"{what}; beginning anew with other weights, from seed {seed}", seed=seed
        )


def is_collapsed(stats: RayStats) -> bool:
    """Whether the field is empty, or opaque with one color, where photographs show more."""
    return is_empty(stats) or is_wall(stats)


def is_empty(stats: RayStats) -> bool:
    """Whether the field is empty, where photographs show something."""
    blank_error = (stats.target - stats.background).square().mean()
    return bool((stats.opacity.mean() < BLANK) & (blank_error > VARIED))


def is_wall(stats: RayStats) -> bool:
    """Whether the field is opaque with one color, where photographs show several."""
    is_flat = (stats.rgb.var(dim=0).mean() < FLAT) & (stats.target.var(dim=0).mean() > VARIED)
    return bool((1 - stats.opacity.mean() < BLANK) & is_flat)


def fault_of(stats: RayStats) -> str | None:
    """A sentence about a field that is empty or opaque everywhere; None for others."""
    opacity, depth = float(stats.opacity.mean()), float(stats.depth.median())
    if is_empty(stats):
        error = float((stats.target - stats.background).abs().mean())
        return (
            f"the field is empty (mean opacity {opacity:.4f}), where the photographs differ from "
            f"the background by {error:.2f} on average"
        )
    if is_wall(stats):
        return f"the field is opaque everywhere (mean opacity {opacity:.4f}) and of one color"
    if opacity > OPAQUE and float((stats.depth < AT_NEAR).float().mean()) > OPAQUE:
        return (
            f"the field is opaque right before the cameras (mean opacity {opacity:.4f}, median "
            f"depth {depth:.2f} times near)"
        )
    return None


def _listed(names: Sequence[str], n_shown: int = 4) -> str:
    more = len(names) - n_shown
    return ", ".join(names[:n_shown]) + (f" and {more} more" if more > 0 else "")
