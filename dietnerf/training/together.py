"""Recorded steps in a run of Lightning's: several of them are one of its batches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from dietnerf.chunks import attach
from dietnerf.errors import UserError
from dietnerf.fields import Ensemble
from dietnerf.sampling import Occupancy
from dietnerf.training.adam import SkippingAdam
from dietnerf.training.datamodule import RaySource, SceneDataModule, Undrawn
from dietnerf.training.recording import (
    MAX_TOGETHER,
    RecordedSteps,
    capacity_for,
    is_half,
    scaled_gradients,
)
from dietnerf.training.seen import Seen

if TYPE_CHECKING:
    from dietnerf.training.system import DietNeRF


class RecordedTraining:
    """Takes the training steps of a system as recorded work.

    Args:
        system: whose losses, sampler and optimiser take part.
    """

    def __init__(self, system: "DietNeRF") -> None:
        self._system = system
        self._steps: RecordedSteps | None = None
        self._capacity: int | None = None

    def check(self, data: SceneDataModule) -> None:
        """Before anything is written.

        Raises:
            UserError: the system has something that does not go with it.
        """
        system = self._system
        for what, name in ((system.schedules, "schedules"), (system.refinement, "refinement")):
            if what:
                raise UserError(f"records_steps does not go with {name}; leave one of them out")
        if isinstance(system.field, Ensemble):
            raise UserError("records_steps does not go with the field Ensemble; leave it out")
        capacity_for(data.samples_per_step, system.sampler, 1)

    def last_together(self, first: int) -> int:
        """The last of the steps that are taken together with `first`: in those before it nothing
        but training happens."""
        last = first
        if self._trains_alone():
            while last < first + MAX_TOGETHER - 1 and not self._is_event(last):
                last += 1
        return last

    def _trains_alone(self) -> bool:
        """Whether there are steps in which Lightning has nothing to do."""
        trainer = self._system.trainer
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return (
            isinstance(trainer.optimizers[0], SkippingAdam)
            and trainer.world_size == trainer.accumulate_grad_batches == 1
            and trainer.gradient_clip_val is None
            and (scaler is None or not scaler.is_enabled())
        )

    def _is_event(self, step: int) -> bool:
        """Whether a step is logged, saved, looked at, or judged by a loss of the scene; also the
        first and the last."""
        trainer: Any = self._system.trainer
        every = [trainer.log_every_n_steps, trainer.val_check_batch]
        every += [callback._every_n_train_steps for callback in trainer.checkpoint_callbacks]
        n_done, n_all = step + 1, trainer.max_steps
        return (
            step == 0
            or n_done >= n_all
            or any(n and n_done % n == 0 for n in every)
            or any(judge.weight_at(step, n_all) for judge in self._system.scene_losses)
        )

    def take_all_but_last(self, batch: Undrawn) -> Undrawn:
        """Take the steps of a batch, of which Lightning hears afterwards, and return the last."""
        *before, last = batch.steps()
        for step in before:
            self._take(step)
        return last

    def judge(self, batch: Undrawn) -> tuple[Tensor, Tensor, int]:
        """The losses of training rays, summed, with what is logged of them and the number of
        samples."""
        system = self._system
        found = self._steps_on(batch.source).judge(batch, system.loss_weights())
        stats, *seen = found.results
        system.seen = Seen(*seen)
        if isinstance(system.sampler, Occupancy):
            system.sampler.note_samples(found.n_samples, len(batch))
        return found.loss, stats, found.n_samples

    def scaled(self, loss: Tensor) -> Tensor:
        """A loss of the scene as it is, or in half precision with its gradients known already, for
        there is no scaler that would keep them from becoming zero."""
        if not (is_half(loss.device) and loss.requires_grad):
            return loss
        parameters = self._parameters()
        return attach(loss.detach(), scaled_gradients(loss, parameters), parameters)

    def _take(self, batch: Undrawn) -> None:
        system, trainer = self._system, self._system.trainer
        system.update_sampler(batch)
        steps, optimizer = self._steps_on(batch.source), trainer.optimizers[0]
        if system.device.type == "cuda":  # else _end does it
            assert isinstance(optimizer, SkippingAdam)
            optimizer.count(self._parameters(), has_gradients=True)
        steps.take(batch, system.loss_weights())
        count_step(trainer)
        for config in trainer.lr_scheduler_configs:
            config.scheduler.step()  # type: ignore[call-arg]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.on_train_batch_end(trainer, system, None, batch, batch.index)

    def _steps_on(self, source: RaySource) -> RecordedSteps:
        if self._steps is None:
            rank = self._system.global_rank
            self._capacity = self._capacity_on(source)
            self._steps = RecordedSteps(self._judge_drawn, self._parameters(), self._end, rank)
        return self._steps

    def _capacity_on(self, source: RaySource) -> int | None:
        system, data = self._system, source.settings
        if source.device != system.device:
            raise UserError(
                "records_steps needs photographs without masks that fit beside everything else on "
                f"{system.device}; leave it out"
            )
        n_devices = 1 if data.batch_per_device else system.trainer.world_size
        return capacity_for(data.samples_per_step, system.sampler, n_devices)

    def _parameters(self) -> list[Tensor]:
        return [p for p in self._system.parameters() if p.requires_grad]

    def _judge_drawn(
        self,
        source: RaySource,
        n_rays: int,
        share: float,
        weights: Sequence[float | Tensor],
        of_rays: torch.Generator,
        of_samples: torch.Generator,
    ) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
        """What is recorded of a step: see RecordedSteps."""
        batch, sampler = source.draw(n_rays, share, 0, of_rays), self._system.sampler
        sampler.capacity = self._capacity
        try:
            terms, rendering = self._system.judge(batch, weights, of_samples)
        finally:
            sampler.capacity = None
        assert rendering.samples is not None, "training rays are rendered with their samples"
        seen = Seen.of(rendering, batch)
        stats = torch.cat([terms.detach(), seen.mse()[None]])
        return terms.sum(), rendering.samples.n_sampled, [stats, *seen.tensors()]

    def _end(self, gradients: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        """What is recorded of the end of a step."""
        system, trainer = self._system, self._system.trainer
        for parameter, gradient in zip(self._parameters(), gradients, strict=True):
            parameter.grad = gradient
        system.note_terms(results[0], {})
        optimizer = trainer.optimizers[0]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_before_optimizer_step(trainer, system, optimizer)
        assert isinstance(optimizer, SkippingAdam)
        if system.device.type == "cuda":
            optimizer.move()
        else:
            optimizer.step()


def count_step(trainer: pl.Trainer) -> None:
    """Tell Lightning of a step that it did not take itself."""
    loop = trainer.fit_loop.epoch_loop
    taken = loop.automatic_optimization.optim_progress.optimizer.step
    for progress in (taken, loop.batch_progress):
        progress.increment_ready()
        progress.increment_completed()
    loop.batch_progress.increment_started()
    loop.batch_progress.increment_processed()
    loop._batches_that_stepped += 1
