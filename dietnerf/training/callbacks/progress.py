"""Progress of a training: the bar on the terminal, and seconds per step."""

import gc
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from dietnerf.training.steps import is_logged, steps_between_logs
from dietnerf.training.system import DietNeRF


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, without the version number of the logger, drawn as often as steps are
    logged."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._refresh_rate = steps_between_logs(trainer) if stage == "fit" else 1

    @property
    def total_train_batches(self) -> int:
        """Of the whole run; Lightning has none for a resumed one."""
        return self.trainer.max_steps

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_start(trainer)
        self._begin(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)  # which is left out where an epoch goes on
        self._begin(trainer)

    def _begin(self, trainer: pl.Trainer) -> None:
        """Start the bar at the current step."""
        bar = self.train_progress_bar
        bar.set_description("Training")
        bar.initial = bar.n = trainer.global_step  # of the rate

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        self.train_progress_bar.total = self.total_train_batches  # a budget of time changes it
        n_done = trainer.global_step  # Lightning's number is that of the first step of a range
        super().on_train_batch_end(trainer, pl_module, outputs, batch, n_done - 1)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class Stopwatch(Callback):
    """Times steps alone (no loading, validation or checkpointing) and logs rays per second."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._n_steps = 0  # since then
        self._seconds_per_step: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The garbage collector need not traverse imported modules again and again.
        gc.collect()
        gc.freeze()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gc.unfreeze()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._started is None:
            self._started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, DietNeRF)
        pl_module.history.steps = trainer.global_step
        self._n_steps += trainer.global_step - batch.start
        logged = is_logged(trainer, trainer.global_step)
        if logged or pl_module.device.type != "cuda":  # a GPU is not waited for in every step
            self._count(pl_module)
        if logged and self._seconds_per_step:
            n_rays, _ = trainer.datamodule.rays_of(batch[-1], trainer.world_size)  # type: ignore[attr-defined]
            rate = n_rays * trainer.world_size / self._seconds_per_step
            pl_module.record({"train/rays_per_second": rate})

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._count(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._count(pl_module)

    def _count(self, system: pl.LightningModule) -> None:
        """Add the time of the steps since the last call, after the GPU has finished them."""
        assert isinstance(system, DietNeRF)
        if self._started is None or self._n_steps == 0:
            return
        if system.device.type == "cuda":
            torch.cuda.synchronize(system.device)
        seconds = time.perf_counter() - self._started
        system.history.seconds += seconds
        kept = 0.9**self._n_steps if self._seconds_per_step else 0.0
        of_one = seconds / self._n_steps
        self._seconds_per_step = kept * (self._seconds_per_step or 0.0) + (1 - kept) * of_one
        self._started, self._n_steps = None, 0
