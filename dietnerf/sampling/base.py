"""Samplers: where along each ray the field is evaluated."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dietnerf.fields.base import AbstractField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.ops import OccupancyGrid


class AbstractSampler(nn.Module, ABC):
    """Places samples on rays. To add one, write one file with one final subclass.

    With `use_cuda_graphs` a training step is captured once and replayed. Then `sample` must do the
    same operations on tensors of the same shapes in every step: it must not read a value back from
    the GPU (`.item()`, `.tolist()`, `bool(tensor)`), make tensors whose size depends on values
    (`nonzero`, `unique`, `masked_select`, boolean indexing), or copy numbers of the host to the
    device (`torch.tensor(...)`). `update` is called before every step and not captured; it should
    not wait for the GPU either, or the host falls behind. A sampler that cannot do so says
    `is_graphable = False`, and is refused with that option.
    """

    has_fixed_number = True  # of samples on a ray
    is_graphable = True

    @abstractmethod
    def sample(
        self,
        rays: Rays,
        field: AbstractField,
        generator: torch.Generator | None,
        capacity: int | None = None,
    ) -> tuple[Samples, Rendering | None]:
        """Sample rays.

        Args:
            rays: (n_rays).
            field: the field that will be evaluated.
            generator: source of random jitter; None samples without it, as in evaluation.
            capacity: fixed number of returned samples, so that no size depends on values; None for
                as many as there are. No effect where `has_fixed_number`, or without a generator.

        Returns:
            The samples, without a gradient, and the coarse rendering that guided them where there
            was one.
        """

    @property
    @abstractmethod
    def n_samples(self) -> int:
        """How many samples a ray has, at most or on average: chunks of rays are sized by it."""

    @property
    def grid(self) -> OccupancyGrid | None:
        """The occupancy grid, where samples without jitter are its occupied cells and nothing else;
        None otherwise."""
        return None

    def is_occupied(self, points: Tensor) -> Tensor:
        """Whether points (n, 3) are in space that is sampled, bool, (n,); elsewhere the density has
        no effect."""
        return torch.ones(len(points), dtype=torch.bool, device=points.device)

    def scalars(self) -> dict[str, Tensor]:
        """Scalars for logging, by name."""
        return {}

    def prepare(self, cameras: Cameras, field: AbstractField) -> None:
        """Called once before training, with the training cameras."""

    def update(self, step: int, field: AbstractField, generator: torch.Generator) -> None:
        """Called before every training step."""


def draw_uniform(
    shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
) -> Tensor | None:
    """Uniform numbers in [0, 1) from the generator, or None without one."""
    if generator is None:
        return None
    return torch.rand(shape, generator=generator, device=generator.device).to(device)
