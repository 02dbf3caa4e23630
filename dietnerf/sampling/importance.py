"""Hierarchical sampling: more samples where a coarse rendering has weight."""

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.ops import sample_pdf
from dietnerf.sampling.base import AbstractSampler, draw_uniform
from dietnerf.sampling.stratified import MOST_SAMPLES, Stratified


class Importance(AbstractSampler):
    """Hierarchical sampling (NeRF, section 5.2).

    A coarse field is rendered at stratified samples; more are drawn from the distribution of its
    weights; the fine field is evaluated at both.

    Args:
        coarse: the coarse field, trained beside the fine one; None takes the fine field itself.
        n_coarse: stratified samples on each ray.
        n_fine: samples drawn by importance.
        lindisp, last_delta: as for `Stratified`.
    """

    def __init__(
        self,
        coarse: AbstractField | None = None,
        n_coarse: int = 64,
        n_fine: int = 128,
        lindisp: bool = False,
        last_delta: float | None = None,
    ) -> None:
        super().__init__()
        if n_coarse < 3 or not 1 <= n_fine <= MOST_SAMPLES:
            raise UserError(
                f"n_coarse is {n_coarse}, n_fine {n_fine}; they must be at least 3 and 1, and at "
                f"most {MOST_SAMPLES}"
            )
        self.coarse = coarse
        self.stratified = Stratified(n_coarse, lindisp, last_delta)
        self.n_fine = n_fine

    @property
    def n_samples(self) -> int:
        return self.stratified.n_samples + self.n_fine

    def sample(
        self,
        rays: Rays,
        field: AbstractField,
        generator: torch.Generator | None,
        capacity: int | None = None,
    ) -> tuple[Samples, Rendering | None]:
        first = self.stratified.place(rays, generator)
        coarse = (self.coarse or field).render(first)
        ts = first.ts.view(len(rays), -1)
        weights = coarse.weights.detach().view(len(rays), -1)
        ts, _ = torch.cat([ts, self._draw(ts, weights, generator)], dim=1).sort(dim=1)
        return Samples.dense(rays, ts, self.stratified.last_delta), coarse

    def _draw(self, ts: Tensor, weights: Tensor, generator: torch.Generator | None) -> Tensor:
        """(n_rays, n_fine) distances.

        A sample stands for the interval between the middles to its neighbors, so the first and
        the last, which have only one neighbor, are left out (as in the authors' code).
        """
        n_rays, n_bins = len(ts), ts.shape[1] - 2
        middles = (ts[:, 1:] + ts[:, :-1]) / 2
        shape = (n_rays, self.n_fine)
        u = draw_uniform(shape, generator, ts.device)
        if u is None:
            u = torch.linspace(0, 1, self.n_fine, device=ts.device).expand(shape)
        return sample_pdf(
            middles[:, :-1].flatten(),
            middles[:, 1:].flatten(),
            weights[:, 1:-1].flatten(),
            torch.arange(0, n_rays * n_bins + 1, n_bins, device=ts.device),
            u,
        )
