"""Training for a given time instead of a given number of steps."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from dietnerf.errors import UserError
from dietnerf.training.steps import is_logged, steps_between_logs
from dietnerf.training.system import DietNeRF

LEAST = 20  # steps before the first estimate
LONGEST = 100_000  # minutes
MOST_STEPS = 1 << 40  # of a run that goes on, until it has begun


class Budget(Callback):
    """Adjusts the number of steps to the time again and again, as steps become faster while the
    occupancy grid empties. Learning rate and schedules follow from that number, so that they end
    where the training does.

    Args:
        minutes: time spent in steps, without loading, validation and checkpoints; including that of
            earlier parts of the run.

    Raises:
        UserError: it is not positive, or too long.
    """

    def __init__(self, minutes: float) -> None:
        if not 0 < minutes <= LONGEST:
            raise UserError(f"--minutes is {minutes:g}; give a number above 0, at most {LONGEST}")
        self.seconds = 60 * minutes
        self._last = (0, 0.0)  # steps and seconds at the last estimate

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DietNeRF)
        steps, seconds = pl_module.history.steps, pl_module.history.seconds
        self._last = (steps, seconds)
        loop = trainer.fit_loop.epoch_loop
        expected = loop.max_steps
        if seconds > 0:  # of a run that goes on, whose schedules would else begin anew
            expected = round(steps * self.seconds / seconds)
        first = steps + LEAST + 2 * steps_between_logs(trainer)  # of the first estimate
        loop.max_steps = steps if seconds >= self.seconds else max(expected, first)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, DietNeRF)
        steps, seconds = pl_module.history.steps, pl_module.history.seconds
        n_timed = steps - self._last[0]
        if not is_logged(trainer, steps) or n_timed < LEAST:
            return
        seconds_per_step = (seconds - self._last[1]) / n_timed
        self._last = (steps, seconds)
        n_left = (self.seconds - seconds) / max(seconds_per_step, 1e-9)
        # Clocks differ between processes, and all must end with the same step.
        most: int = trainer.strategy.broadcast(steps + max(0, math.ceil(n_left)))
        trainer.fit_loop.epoch_loop.max_steps = most
