"""Single training steps: losses, backward pass and optimizer, eagerly or as CUDA graphs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from dietnerf.gaussians import Gaussians
from dietnerf.losses import AbstractRegularizer
from dietnerf.schedules.base import AbstractSchedule, Progress
from dietnerf.training.adam import SkippingAdam
from dietnerf.training.cuda_graphs import (
    GraphedTrainingStep,
    capacity_for,
    spread_if_not_finite,
    with_scaled_gradients,
)
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.eager import EagerRayLosses
from dietnerf.training.objective import Objective, RayLosses
from dietnerf.training.steps import count_optimizer_step
from dietnerf.training.view_losses import ViewLosses


@dataclass(frozen=True)
class StepOutput:
    """What a step computed.

    Args:
        rays: the losses of its rays.
        scene: the regularizers that counted, weighted, each a scalar.
        n_rays: number of its rays.
    """

    rays: RayLosses
    scene: dict[AbstractRegularizer, Tensor]
    n_rays: int


@dataclass(frozen=True)
class Updates:
    """How parameters are updated in a run of Lightning's.

    Args:
        optimizer: of the Trainer, as Lightning wraps it.
        backward: differentiates a loss, scaled where half precision needs it.
        before_step: calls what callbacks do between the backward pass and the optimizer's step.
        is_clipped: whether gradients are scaled down to a norm; a CUDA graph then holds no step of
            the optimizer.
    """

    optimizer: Any
    backward: Callable[[Tensor], None]
    before_step: Callable[[], None]
    is_clipped: bool

    def can_be_graphed(self, trainer: pl.Trainer) -> bool:
        """Whether a step of the optimizer can be part of a CUDA graph."""
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return (
            isinstance(self.optimizer.optimizer, SkippingAdam)
            and trainer.world_size == 1
            and not self.is_clipped
            and (scaler is None or not scaler.is_enabled())
        )


class TrainingStep:
    """Draws rays, updates the sampler, computes the losses and updates the parameters.

    Args:
        objective: what is minimized, on the device of the steps.
        data: draws the rays, and says how many a step has.
        trainer: how long the run is, and on which devices.
        updates: how parameters are updated.
        schedules: change field and rays by the step; none with CUDA graphs.
        use_cuda_graphs: whether the part of a step that depends on rays is captured.
    """

    def __init__(
        self,
        objective: Objective,
        data: SceneDataModule,
        trainer: pl.Trainer,
        updates: Updates,
        schedules: Sequence[AbstractSchedule] = (),
        use_cuda_graphs: bool = False,
    ) -> None:
        device, rank = trainer.strategy.root_device, trainer.global_rank
        self._objective, self._data = objective, data
        self._trainer, self._updates = trainer, updates
        self._parameters = list(objective.parameters())
        self._background = data.background.to(device)  # in a step a GPU would be waited for
        self._eager: EagerRayLosses | ViewLosses | None = None
        self._graphed: GraphedTrainingStep | None = None
        self._can_update_in_graph = False
        self.losses = torch.zeros(0)  # weighted, of the last step, (n_losses,)
        if isinstance(objective.field, Gaussians):
            views = data.view_source(device)
            self._eager = ViewLosses(objective, views, data.coarse_until, rank)
            return
        source = data.ray_source(device)
        if use_cuda_graphs:
            n_devices = 1 if data.batch_per_device else trainer.world_size
            capacity = capacity_for(data.samples_per_step, objective.sampler, n_devices)
            update = self._update_in_graph
            self._can_update_in_graph = updates.can_be_graphed(trainer)
            self._graphed = GraphedTrainingStep(objective, source, capacity, update, rank)
        else:
            # A loss scale for half precision is applied after chunks are differentiated: too late.
            is_chunked = trainer.precision != "16-mixed"
            self._eager = EagerRayLosses(objective, source, schedules, rank, is_chunked)

    @property
    def is_graphed(self) -> bool:
        """Whether steps are CUDA graphs, of which only the last of a range counts the samples."""
        return self._graphed is not None

    def __call__(self, step: int, is_last: bool, with_stats: bool) -> StepOutput:
        """Take one step.

        Args:
            step: optimization steps taken so far.
            is_last: whether it is the last of its range.
            with_stats: whether stats of the rays are returned; with CUDA graphs always at the end
                of a range.
        """
        progress = Progress(step, self._trainer.max_steps)
        n_rays, fraction = self._data.rays_of(step, self._trainer.world_size)
        weights = self._objective.scene_weights(step, progress.n_steps)
        in_graph = self._can_update_in_graph and not weights
        if self._eager is not None:
            rays = self._eager(progress, n_rays, fraction, with_stats)
        else:
            rays = self._graphed_losses(progress, n_rays, fraction, in_graph, is_last)
        rank = self._trainer.global_rank
        scene = self._objective.of_scene(step, weights, self._background, rank)
        if in_graph:
            count_optimizer_step(self._trainer)
        else:
            self._record_losses(rays.terms, scene)
            self._update(rays.loss, list(scene.values()))
        if rays.n_samples is not None:
            self._data.adapt(n_rays, rays.n_samples)
        return StepOutput(rays, scene, n_rays)

    def _graphed_losses(
        self, progress: Progress, n_rays: int, fraction: float, updates: bool, is_last: bool
    ) -> RayLosses:
        assert self._graphed is not None
        optimizer = self._updates.optimizer.optimizer
        if updates and self._is_on_cuda:  # else `_update_in_graph` does it
            assert isinstance(optimizer, SkippingAdam)
            optimizer.count(self._parameters, has_gradients=True)
        return self._graphed(progress, n_rays, fraction, updates, reads=is_last or not updates)

    @property
    def _is_on_cuda(self) -> bool:
        return self._background.device.type == "cuda"

    def _record_losses(self, of_rays: Tensor, of_scene: dict[AbstractRegularizer, Tensor]) -> None:
        none = of_rays.new_zeros(())
        scene = [of_scene.get(x, none).detach()[None] for x in self._objective.regularizers]
        self.losses = torch.cat([of_rays, *scene])

    def _update(self, loss: Tensor, of_scene: list[Tensor]) -> None:
        if of_scene:
            scene = torch.stack(of_scene).sum()
            if self.is_graphed:
                scene = with_scaled_gradients(scene, self._parameters)
            loss = loss + scene
        with torch.autocast(loss.device.type, enabled=False):
            self._updates.optimizer.zero_grad()
            self._updates.backward(spread_if_not_finite(loss))
            self._updates.optimizer.step()

    def _update_in_graph(self, gradients: Sequence[Tensor], losses: Tensor) -> None:
        """The optimizer's part of a CUDA graph."""
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._record_losses(losses, {})
        self._updates.before_step()
        optimizer = self._updates.optimizer.optimizer
        assert isinstance(optimizer, SkippingAdam)
        if self._is_on_cuda:
            optimizer.move()
        else:
            optimizer.step()
