"""How a run is stopped by signals."""

import os
import signal
import stat
import threading
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dietnerf.data.dataset import Split
from dietnerf.errors import HANGUP, UserError
from dietnerf.training.steps import is_logged
from dietnerf.training.view_dataset import RenderedView

STOPPING = "\nstopping after this {}; once more stops at once\n"
ONE_REQUEST = 1.0  # seconds; `timeout` and closed terminals signal a process and then its group


class StopOnSignal(Callback):
    """Ends training after the step in which SIGTERM, SIGINT or SIGHUP arrives, with several
    processes after the next one that is logged; `validate`, `test` and `predict` after the current
    view. A later signal ends them at once.

    Raises:
        SIGTERMException: as Lightning does.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.has_begun = False  # training, after the state of an earlier part was restored
        self._received_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.has_begun = True
        self._listen("step, with a checkpoint")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._listen("picture")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen("picture")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen("picture")

    def _listen(self, last: str) -> None:
        """Install handlers of signals; `last` names what is still completed."""
        self._last = last
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if HANGUP is not None and signal.getsignal(HANGUP) != signal.SIG_IGN:  # by nohup
            numbers.append(HANGUP)
        for number in numbers:  # Lightning puts back what was there
            signal.signal(number, self._receive)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        # A collective in every step would cost more than the step.
        can_ask = trainer.world_size == 1 or is_logged(trainer, trainer.global_step)
        if can_ask and self._is_asked(trainer):
            raise SIGTERMException

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: RenderedView,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.state.fn != "fit":
            self._stop_after_picture(trainer, "val", batch_idx)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: RenderedView,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._stop_after_picture(trainer, "test", batch_idx)

    on_predict_batch_end = on_test_batch_end

    def _stop_after_picture(self, trainer: pl.Trainer, split: Split, batch_idx: int) -> None:
        n_views = len(trainer.datamodule.datasets[split])  # type: ignore[attr-defined]
        have_all = batch_idx < n_views // trainer.world_size  # processes that can answer
        if have_all and self._is_asked(trainer):
            raise SIGTERMException

    def _is_asked(self, trainer: pl.Trainer) -> bool:
        """Whether any process received a signal; a collective."""
        is_asked = self.received is not None
        if trainer.world_size > 1:
            return trainer.strategy.reduce_boolean_decision(is_asked, all=False)
        return is_asked

    def _receive(self, number: int, _: Any) -> None:
        if number == HANGUP:
            _leave_terminal()
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), time.monotonic()
            # print is not reentrant
            os.write(2, STOPPING.format(self._last).encode())
        elif time.monotonic() - self._received_at >= ONE_REQUEST:
            raise UserError("stopped at once")


def _leave_terminal() -> None:
    """Redirect output from a closed terminal, where writing would raise an error within a step."""
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):  # isatty says no by now
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
