"""Samples drawn from a proposal: few on each ray, where a small grid of densities has weight."""

from typing import final

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.fields.hash_grid import level_rows
from dietnerf.geometry.bounds import bounds_of
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Histogram, Rays, Rendering, Samples
from dietnerf.ops import hash_encode, sample_pdf
from dietnerf.ops._hash_grid import density_of_logits, unit_cube
from dietnerf.sampling.base import AbstractSampler, draw_uniform
from dietnerf.sampling.stratified import MOST_SAMPLES

FIRST_LOGIT = -1.0  # of the density before training: a ray through the box loses half of its light
UNIFORM_FRACTION = 0.01  # of the samples, spread evenly over the ray
LEAST_NEAR = 1e-3  # as a share of far: distances are divided by their logarithm


@final
class Proposal(AbstractSampler):
    """Samples drawn from the density of a small grid, for scenes that go on to the horizon
    (proposals of mip-NeRF 360, section 3, with a grid of log densities in place of the network).

    A ray is divided into intervals that grow with the distance; the grid gives the weight of each,
    and the samples are drawn from these weights. The grid is trained beside the field by the loss
    `Interlevel`, which this sampler needs. It covers all of space, contracted as by `HashGrid` with
    `is_unbounded`. An `Occupancy` grid takes fewer samples once a scene is empty but for surfaces;
    where the background is far or fog remains, it takes many more.

    Args:
        n_samples: samples on each ray in training, where jitter averages over what lies between
            them.
        n_eval_samples: the same for evaluation, which has no jitter.
        n_intervals: intervals in which the grid is queried first.
        finest_resolution: cells of the finest of the grid's three levels along each side.
        log2_table_size: a level has 2^this entries at most.
    """

    levels: Tensor  # (3, 3), as for the op `hash_encode`
    box: Tensor  # (2, 3)

    def __init__(
        self,
        n_samples: int = 24,
        n_eval_samples: int = 48,
        n_intervals: int = 64,
        finest_resolution: int = 128,
        log2_table_size: int = 18,
    ) -> None:
        super().__init__()
        sizes = {"n_samples": n_samples, "n_eval_samples": n_eval_samples}
        for name, n in (sizes | {"n_intervals": n_intervals}).items():
            if not 2 <= n <= MOST_SAMPLES:
                raise UserError(f"{name} is {n}; it must be from 2 to {MOST_SAMPLES}")
        if not 16 <= finest_resolution <= 1024 or not 8 <= log2_table_size <= 24:
            raise UserError(
                f"finest_resolution is {finest_resolution}, log2_table_size {log2_table_size}; "
                "they must be from 16 to 1024, and from 8 to 24"
            )
        self.n_drawn = n_samples
        self.n_eval_samples = n_eval_samples
        self.n_intervals = n_intervals
        levels = level_rows(3, log2_table_size, 16, finest_resolution)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("box", torch.full((2, 3), torch.nan))
        self.table = nn.Parameter(torch.zeros(int(levels[:, 2].sum()), 1))

    @property
    def n_samples(self) -> int:
        return max(self.n_drawn, self.n_eval_samples, self.n_intervals)

    def prepare(self, cameras: Cameras, field: AbstractField) -> None:
        self.box.copy_(bounds_of(cameras) if field.bounds is None else field.bounds)

    def sample(
        self,
        rays: Rays,
        field: AbstractField,
        generator: torch.Generator | None,
        capacity: int | None = None,
    ) -> tuple[Samples, Rendering | None]:
        log_edges = self._intervals(rays, generator)
        edges = log_edges.exp()
        proposal = Histogram(edges, self._weights(rays, edges))
        drawn = self._draw(log_edges, proposal.weights.detach(), generator).exp()
        return Samples.between(rays, drawn, proposal), None

    def _intervals(self, rays: Rays, generator: torch.Generator | None) -> Tensor:
        """Logarithms of the ends of intervals, even but for jitter, (n_rays, n_intervals + 1)."""
        n, device = self.n_intervals, rays.near.device
        shares = torch.linspace(0, 1, n + 1, device=device).expand(len(rays), n + 1)
        jitter = draw_uniform((len(rays), n - 1), generator, device)
        if jitter is not None:
            inner = shares[:, 1:-1] + (jitter - 0.5) / n
            shares = torch.cat([shares[:, :1], inner, shares[:, -1:]], dim=1)
        first = torch.maximum(rays.near, LEAST_NEAR * rays.far).log()[:, None]
        return torch.lerp(first, rays.far.log()[:, None], shares)

    def _weights(self, rays: Rays, edges: Tensor) -> Tensor:
        """Weight of each interval, differentiable, (n_rays, n_intervals)."""
        middles = (edges[:, 1:] + edges[:, :-1]) / 2
        points = rays.rays_o[:, None] + middles[..., None] * rays.rays_d[:, None]
        lengths = edges.diff(dim=1) * rays.norms[:, None]
        thickness = self.density(points.view(-1, 3)).view_as(lengths) * lengths
        passed = thickness.cumsum(dim=1) - thickness
        return torch.exp(-passed) * -torch.expm1(-thickness)

    def density(self, points: Tensor) -> Tensor:
        """Density of the grid at points (n, 3), per scene unit, (n,)."""
        unit, is_outside = unit_cube(points, self.box, is_contracted=True)
        weights = torch.ones_like(self.levels[:, 0], dtype=unit.dtype)
        logits = hash_encode(self.table, unit, self.levels, weights).sum(dim=1)
        return density_of_logits(FIRST_LOGIT + logits, self.box, is_outside)

    def _draw(self, edges: Tensor, weights: Tensor, generator: torch.Generator | None) -> Tensor:
        """Ends of as many intervals as there are samples, (n_rays, n_samples + 1), by stratified
        inverse-transform sampling."""
        n_rays, n_intervals = weights.shape
        n_ends = 1 + (self.n_eval_samples if generator is None else self.n_drawn)
        jitter = draw_uniform((n_rays, n_ends), generator, edges.device)
        share = torch.full((n_rays, n_ends), 0.5, device=edges.device) if jitter is None else jitter
        return sample_pdf(
            edges[:, :-1].flatten(),
            edges[:, 1:].flatten(),
            (weights + UNIFORM_FRACTION / n_intervals).flatten(),
            torch.arange(0, n_rays * n_intervals + 1, n_intervals, device=edges.device),
            (torch.arange(n_ends, device=edges.device) + share) / n_ends,
        )
