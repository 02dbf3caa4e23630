"""The folder of a run during training: one process at a time, restored where it is removed."""

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators.xla import XLAAccelerator
from pytorch_lightning.callbacks import Callback

from dietnerf.locks import FolderLock
from dietnerf.training.callbacks.saving import SaveConfig
from dietnerf.training.steps import is_logged

WRITING = ("fit", "test", "predict")  # subcommands whose results two processes would mix


def needs_lock(trainer: pl.Trainer, subcommand: str) -> bool:
    """Whether this process is the one of its run that locks the folder."""
    # Several TPU machines assign ranks only later: until then each has a rank 0.
    is_pod = isinstance(trainer.accelerator, XLAAccelerator) and trainer.num_nodes > 1
    return subcommand in WRITING and trainer.is_global_zero and not is_pod


class KeepFolder(Callback):
    """Restores the folder of a run where it was deleted, renamed or unmounted in training, and its
    config where only that is missing, so that later checkpoints can be resumed from.

    Args:
        lock: of the folder.

    Raises:
        UserError: another process trains in a new folder of that name.
    """

    def __init__(self, lock: FolderLock) -> None:
        self.lock = lock

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        if is_logged(trainer, trainer.global_step):  # which TensorBoard would end with an error
            self._restore(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore(trainer, pl_module)

    def _restore(self, trainer: pl.Trainer, system: pl.LightningModule) -> None:
        if not self.lock.is_held:  # but by another process of this run
            return
        if not self.lock.is_in_place():
            print(
                f"{self.lock.folder} was deleted, renamed or unmounted: at step "
                f"{trainer.global_step} it is made again, without what was in it",
                file=sys.stderr,
            )
            self.lock.renew()
        for saving in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(saving, SaveConfig):
                saving.restore_config(trainer, system)
