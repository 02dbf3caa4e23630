"""The folder of a run while it is written to: one process at a time, and made again where it is
gone."""

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
    # Several TPU machines number their processes only later: until then each has one of rank 0.
    is_pod = isinstance(trainer.accelerator, XLAAccelerator) and trainer.num_nodes > 1
    return subcommand in WRITING and trainer.is_global_zero and not is_pod


class KeepFolder(Callback):
    """Makes the folder of a run again where it was deleted, renamed or unmounted in training, and
    its config where only that is missing: what is saved from then on is a run to go on with.

    Args:
        lock: of the folder.

    Raises:
        UserError: another process trains in the folder that has its name by now.
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
