"""The losses of a step's view, for Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass

from dietnerf.data.view_sampling import ViewSource
from dietnerf.gaussians import Gaussians
from dietnerf.randomness import step_generator
from dietnerf.schedules.base import Progress
from dietnerf.training.objective import Objective, RayLosses


@dataclass(frozen=True)
class ViewLosses:
    """Draws the view of a step, updates the Gaussians and computes the losses.

    Args:
        objective: of which the losses of rays take part, a view's pixels being its rays.
        source: draws the views.
        coarse_until: shares of the run at which views double their width and height.
        rank: of this process.
    """

    objective: Objective
    source: ViewSource
    coarse_until: Sequence[float]
    rank: int

    def __call__(
        self, progress: Progress, n_rays: int, fraction: float, with_stats: bool
    ) -> RayLosses:
        """The losses in a step, differentiable in the parameters; the numbers are for rays."""
        step, field = progress.step, self.objective.field
        assert isinstance(field, Gaussians)
        # With the same random numbers on all processes, so that they stay the same on all.
        field.update(step, progress.n_steps, step_generator("gaussians", step, 0))
        n_halvings = sum(step < share * progress.n_steps for share in self.coarse_until)
        batch = self.source.draw(step_generator("views", step, self.rank), n_halvings)
        weights = self.objective.ray_weights(step, progress.n_steps)
        return self.objective.of_view(batch, step, weights, with_stats)
