"""The losses of a step's rays, computed eagerly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dietnerf.data.ray_sampling import RayBatch, RaySource
from dietnerf.fields.base import queried
from dietnerf.randomness import step_generator
from dietnerf.schedules.base import AbstractSchedule, Progress
from dietnerf.training.objective import Objective, RayLosses


@dataclass(frozen=True)
class EagerRayLosses:
    """Draws the rays of a step, updates the sampler and computes the losses.

    Args:
        objective: of which the losses of rays take part.
        source: draws the rays.
        schedules: change field and rays by the step.
        rank: of this process.
        is_chunked: whether rays are rendered in chunks.
    """

    objective: Objective
    source: RaySource
    schedules: Sequence[AbstractSchedule]
    rank: int
    is_chunked: bool

    def __call__(
        self, progress: Progress, n_rays: int, fraction: float, with_stats: bool
    ) -> RayLosses:
        """The losses in a step, differentiable in the parameters.

        Args:
            progress: how many optimization steps were taken, and how many there are.
            n_rays, fraction: as for `RaySource.draw`.
            with_stats: whether the stats of the rays are returned.
        """
        step, objective = progress.step, self.objective
        batch = self._scheduled(progress, self._draw(step, n_rays, fraction))
        objective.update_sampler(step)
        generator = step_generator("samples", step, self.rank, self.source.device)
        weights = objective.ray_weights(step, progress.n_steps)
        return objective.of_rays(batch, step, weights, generator, with_stats, self.is_chunked)

    def _draw(self, step: int, n_rays: int, fraction: float) -> RayBatch:
        generator = step_generator("rays", step, self.rank, self.source.storage)
        return self.source.draw(n_rays, generator, fraction)

    def _scheduled(self, progress: Progress, batch: RayBatch) -> RayBatch:
        for schedule in self.schedules:
            field = queried(self.objective.field, "a schedule")
            rays = schedule.apply(progress, field, batch.rays)
            batch = replace(batch, rays=rays)
        return batch
