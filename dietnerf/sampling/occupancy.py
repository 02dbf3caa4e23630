"""Samples in the occupied cells of a grid only."""

import math

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField
from dietnerf.geometry.bounds import bounds_of, check_bounds
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.ops import OccupancyGrid, march_rays
from dietnerf.sampling.base import AbstractSampler, draw_uniform
from dietnerf.sampling.grid_cells import (
    bits_at,
    cells_in_view,
    cells_to_update,
    fraction_of_bits,
    pack_bits,
    random_points,
)

MAX_STEPS = 2**16  # march_rays counts them in float32, on up to 2^7 times the diagonal
TOO_MANY = "samples are more than can be indexed"  # what march_rays says
WARMUP_UPDATES = 4  # that evaluate every cell once
PROBES_PER_CHUNK = 2**15
NEVER_PROBED = -math.inf  # below every thickness, and far from zero


class Occupancy(AbstractSampler):
    """Even steps through the occupied cells of a grid (instant-ngp, section 5.2 and appendix E).

    Level k of the grid spans the box enlarged 2^k times. A cell is occupied while the optical
    thickness of one step in it, which decays and is evaluated again from time to time, is above a
    threshold; at first all cells are occupied.

    Pruning is dangerous with few views: what training has not resolved yet can appear empty, and an
    emptied cell gets no gradient, so that it comes back only if the field turns dense there for
    other reasons. A lower threshold, a decay closer to 1 and a longer warm-up prune more slowly.

    Args:
        resolution: cells along each axis of a level, a multiple of 8.
        n_levels: levels of the grid, 1 to 8; more than 1 for scenes that go on outside the box.
        n_steps: steps across the diagonal of the box in training, where jitter averages over what
            lies between them.
        n_eval_steps: the same for evaluation, which has no jitter.
        cone_angle: growth of a step per unit of distance from the camera; 0 for steps of one
            length.
        threshold: optical thickness of a step above which a cell is occupied; the mean over all
            cells where that is less.
        decay: factor of the thickness each time that a cell is evaluated.
        update_every: interval in training steps between updates of the grid after warm-up.
        warmup_steps: training steps within which each cell is evaluated once, in four updates.
        min_view_fraction: share of the training cameras that must see a cell, which otherwise stays
            empty: 0 for any scene, more for an object in the middle of all views, around which few
                views leave debris that the others do not see. Where no cell is seen by as many,
                those that most cameras see are kept.
        bounds: the box, lowest corner and then highest, six numbers in scene units; None takes the
            field's, or else what the cameras see.
    """

    bounds: Tensor  # (2, 3)
    thickness: Tensor  # (n_levels, resolution^3), -inf where never probed
    occupied: Tensor  # uint8, (n_levels, resolution^3 / 8)
    is_seen: Tensor  # bool, (n_levels, resolution^3)
    has_fixed_number = False

    def __init__(
        self,
        resolution: int = 128,
        n_levels: int = 1,
        n_steps: int = 384,
        n_eval_steps: int = 768,
        cone_angle: float = 0.0,
        threshold: float = 0.01,
        decay: float = 0.6,
        update_every: int = 8,
        warmup_steps: int = 32,
        min_view_fraction: float = 0.0,
        bounds: list[float] | None = None,
    ) -> None:
        super().__init__()
        if resolution < 8 or resolution % 8 != 0 or resolution > 1024:
            raise UserError(
                f"resolution is {resolution}; it must be a multiple of 8 from 8 to 1024"
            )
        if not 1 <= n_levels <= 8:
            raise UserError(f"n_levels is {n_levels}; it must be from 1 to 8")
        for name, n in (("n_steps", n_steps), ("n_eval_steps", n_eval_steps)):
            if not 1 <= n <= MAX_STEPS:
                raise UserError(f"{name} is {n}; it must be from 1 to {MAX_STEPS}")
        if update_every < 1 or warmup_steps < 0:
            raise UserError(
                f"update_every is {update_every}, warmup_steps {warmup_steps}; they must be at "
                "least 1 and 0"
            )
        if not 0 <= min_view_fraction <= 1:
            raise UserError(
                f"min_view_fraction is {min_view_fraction}; it must be a share, from 0 to 1"
            )
        if not (cone_angle >= 0 and threshold >= 0 and 0 < decay <= 1):
            raise UserError(
                f"cone_angle is {cone_angle}, threshold {threshold}, decay {decay}; they must be "
                "at least 0, at least 0, and above 0 up to 1"
            )
        self.resolution = resolution
        self.n_steps = n_steps
        self.n_eval_steps = n_eval_steps
        self.cone_angle = cone_angle
        self.threshold = threshold
        self.decay = decay
        self.update_every = update_every
        self.warmup_steps = warmup_steps
        self.min_view_fraction = min_view_fraction
        self.chosen_bounds = None if bounds is None else _checked_box(bounds)
        n_cells = resolution**3
        self.register_buffer("bounds", torch.full((2, 3), torch.nan))
        self.register_buffer("thickness", torch.full((n_levels, n_cells), NEVER_PROBED))
        self.register_buffer(
            "occupied", torch.full((n_levels, n_cells // 8), 255, dtype=torch.uint8)
        )
        self.register_buffer("is_seen", torch.ones(n_levels, n_cells, dtype=torch.bool), False)
        self._samples_per_ray = float(n_steps)
        self._step_size: float | None = (
            None  # kept here, as reading the bounds would wait for a GPU
        )

    @property
    def n_samples(self) -> int:
        return max(1, round(self._samples_per_ray))

    @property
    def step_size(self) -> float:
        """The length of a step in training, scene units."""
        if self._step_size is None:
            if self.bounds.isnan().any():
                raise ValueError("Occupancy: prepare() must come before sample() and update()")
            self._step_size = float((self.bounds[1] - self.bounds[0]).norm()) / self.n_steps
        return self._step_size

    @property
    def _eval_step_size(self) -> float:
        return self.step_size * self.n_steps / self.n_eval_steps

    @property
    def grid(self) -> OccupancyGrid:
        return self._grid_of(self._eval_step_size)

    def _grid_of(self, step_size: float) -> OccupancyGrid:
        return OccupancyGrid(
            self.bounds, self.occupied, self.resolution, step_size, self.cone_angle
        )

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self._samples_per_ray, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self._samples_per_ray = float(state)
        self._step_size = None  # the bounds are loaded with it

    def prepare(self, cameras: Cameras, field: AbstractField) -> None:
        if self.chosen_bounds is not None:
            check_bounds(self.chosen_bounds, cameras, "sampler.bounds")
            bounds = self.chosen_bounds
        else:
            bounds = bounds_of(cameras) if field.bounds is None else field.bounds
        self.bounds.copy_(bounds)
        self._step_size = None
        if self.min_view_fraction > 0:
            for level in range(len(self.is_seen)):
                self.is_seen[level] = cells_in_view(
                    cameras, self.bounds, level, self.resolution, self.min_view_fraction
                )
            self.occupied.copy_(pack_bits(self._occupied_cells()))

    def sample(
        self,
        rays: Rays,
        field: AbstractField,
        generator: torch.Generator | None,
        capacity: int | None = None,
    ) -> tuple[Samples, Rendering | None]:
        jitter = draw_uniform((len(rays),), generator, rays.near.device)
        step_size = self.step_size if jitter is not None else self._eval_step_size
        capacity = None if generator is None else capacity
        ts, deltas, ray_offsets, n_total = self._march(rays, step_size, jitter, capacity)
        if generator is not None and capacity is None and len(rays) > 0:
            self.note_samples(len(ts), len(rays))
        if capacity is None:
            return Samples(rays, ts, deltas, ray_offsets), None
        return Samples(rays, ts, deltas, ray_offsets, n_total=n_total), None

    def note_samples(self, n_samples: int, n_rays: int) -> None:
        """Update the running mean of samples per ray."""
        self._samples_per_ray += 0.1 * (n_samples / n_rays - self._samples_per_ray)

    def is_occupied(self, points: Tensor) -> Tensor:
        return bits_at(points, self.occupied, self.bounds, self.resolution)

    def scalars(self) -> dict[str, Tensor]:
        """`occupied`: the share of all cells."""
        return {"occupied": fraction_of_bits(self.occupied)}

    def _march(
        self, rays: Rays, step_size: float, jitter: Tensor | None, capacity: int | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        grid = self._grid_of(step_size)
        try:
            return march_rays(rays.rays_o, rays.rays_d, rays.near, rays.far, grid, jitter, capacity)
        except RuntimeError as error:
            if TOO_MANY not in str(error):
                raise
            raise UserError(
                f"{len(rays)} rays have more samples than can be indexed; choose fewer "
                "rays_per_step, or fewer n_steps of the sampler"
            ) from error

    @torch.no_grad()
    def update(self, step: int, field: AbstractField, generator: torch.Generator) -> None:
        if step < self.warmup_steps:
            every = math.ceil(self.warmup_steps / WARMUP_UPDATES)
        else:
            every = self.update_every
        if step % every != 0:
            return
        is_warm = step >= self.warmup_steps
        if is_warm:
            cells = cells_to_update(self._occupied_cells().view(-1), generator)
        else:
            cells = self._next_of_all(step // every)
        flat = self.thickness.view(-1)
        flat[cells] *= self.decay
        for some in cells.split(PROBES_PER_CHUNK):
            # A cell may have been drawn twice.
            flat.scatter_reduce_(0, some, self._probe(some, field, generator), "amax")
        self.occupied.copy_(pack_bits(self._occupied_cells()))

    def _next_of_all(self, update: int) -> Tensor:
        """Every n-th cell, another set at each of the n updates of the warm-up."""
        return torch.arange(
            update, self.thickness.numel(), WARMUP_UPDATES, device=self.thickness.device
        )

    def _occupied_cells(self) -> Tensor:
        """Before packing, bool, (n_levels, resolution^3)."""
        mean = self.thickness.clamp(min=0).mean()
        return (self.thickness.abs() > mean.clamp(max=self.threshold)) & self.is_seen

    def _probe(self, cells: Tensor, field: AbstractField, generator: torch.Generator) -> Tensor:
        """Optical thickness of a step at one random point in each cell, (n_cells,)."""
        points, scales = random_points(cells, self.bounds, self.resolution, generator)
        steps = self.step_size * (scales if self.cone_angle > 0 else torch.ones_like(scales))
        thickness = field.occupancy_density(Samples.at(points, steps)).float() * steps
        return thickness.nan_to_num()  # a NaN would empty the whole grid


def _checked_box(bounds: list[float]) -> Tensor:
    box = torch.tensor(bounds)
    if box.shape != (6,) or not (box.isfinite().all() and (box[:3] < box[3:]).all()):
        raise UserError(
            f"bounds is {bounds}; it must be six numbers, the lowest corner of a box and then the "
            "highest"
        )
    return box.view(2, 3)
