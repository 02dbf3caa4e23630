"""Training losses: of rays, and regularizers of the scene."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractRadianceField, queried
from dietnerf.geometry.rays import Rays, Rendering
from dietnerf.sampling.base import AbstractSampler


class AbstractLoss(nn.Module, ABC):
    """One term of the objective.

    Args:
        weight: factor in the sum of all losses.
        every: interval in steps between those in which it counts.
        start, stop: the first step in which it counts, and the first in which it does no more.
        final_weight: the weight at `stop`, or at the end of the run, reached linearly; None keeps
            `weight`.
        ramp: steps after `start` over which the weight grows linearly from zero.

    `needs_samples` says that it evaluates a field along rays, which Gaussians do not allow.
    """

    needs_samples = False

    def __init__(
        self,
        weight: float = 1.0,
        every: int = 1,
        start: int = 0,
        stop: int | None = None,
        final_weight: float | None = None,
        ramp: int = 0,
    ) -> None:
        super().__init__()
        if every < 1:
            raise UserError(f"{type(self).__name__}: every must be at least 1, got {every}")
        if start < 0 or (stop is not None and stop < start):
            raise UserError(
                f"{type(self).__name__}: start and stop must be steps, the first one first, got "
                f"{start} and {stop}"
            )
        if ramp < 0:
            raise UserError(f"{type(self).__name__}: ramp must be at least 0 steps, got {ramp}")
        self.weight = weight
        self.every = every
        self.start, self.stop = start, stop
        self.final_weight = final_weight
        self.ramp = ramp

    @property
    def name(self) -> str:
        """Name in logs: that of the class in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def weight_at(self, step: int, n_steps: int) -> float:
        """The factor in a step of a run of `n_steps`; 0 where the loss does not count."""
        stop = n_steps if self.stop is None else self.stop
        if not self.start <= step < stop or step % self.every != 0:
            return 0.0
        weight = self.weight
        if self.final_weight is not None:
            weight += (step - self.start) / (stop - self.start) * (self.final_weight - weight)
        return weight * min(1.0, (step - self.start + 1) / (self.ramp + 1))

    def check(self, field: AbstractRadianceField) -> None:
        """Called once before `prepare`.

        Raises:
            UserError: the loss does not suit what is trained.
        """
        if self.needs_samples:
            queried(field, f"the loss {type(self).__name__}")

    def prepare(self, dataset: ImageDataset, background: Tensor, device: torch.device) -> None:
        """Called once before training, with the training photographs and the color behind them.

        Raises:
            UserError: something that the loss needs is missing.
        """


@dataclass(frozen=True)
class RayLossInput:
    """A batch of training rays with its rendering.

    Args:
        index: number of optimization steps taken so far.
        rays: (n_rays); None where a whole view was drawn.
        target: colors of the photographs, (n_rays, 3).
        background: the color behind each ray, (n_rays, 3).
        rendering: colors of the field, (n_rays).
        coarse: the rendering that guided its samples, if there was one.
        alpha: opacity of the photographed pixels, (n_rays,) in [0, 1], if known.
        size: height and width of the view that the rays are, row by row; None for random rays.
    """

    index: int
    rays: Rays | None
    target: Tensor
    background: Tensor
    rendering: Rendering
    coarse: Rendering | None
    alpha: Tensor | None = None
    size: tuple[int, int] | None = None


class AbstractRayLoss(AbstractLoss):
    """A mean over training rays. To add one, write one file with one final subclass.

    A step may be computed in chunks of rays, whose values are averaged.

    With `use_cuda_graphs` a training step is captured once and replayed. Then `forward` must do the
    same operations on tensors of the same shapes in every step: it must not read a value back from
    the GPU (`.item()`, `.tolist()`, `bool(tensor)`), make tensors whose size depends on values
    (`nonzero`, `unique`, `masked_select`, boolean indexing), or copy numbers of the host to the
    device (`torch.tensor(...)`); use `torch.where` for what does not count. `step.index` is that of
    the capture; weights are those of each step. A loss that cannot do so says
    `is_graphable = False`, and is refused with that option.
    """

    is_graphable = True

    @abstractmethod
    def forward(self, step: RayLossInput) -> Tensor:
        """The value before weighting, a scalar with gradients."""


@dataclass(frozen=True)
class SceneContext:
    """The scene as it is in one step of training.

    Args:
        index: number of optimization steps taken so far.
        field, sampler: the scene.
        background: the color behind it, (3,), on the device of the field.
        generator: on the CPU, seeded for this loss, step and process.
    """

    index: int
    field: AbstractRadianceField
    sampler: AbstractSampler
    background: Tensor
    generator: torch.Generator


class AbstractRegularizer(AbstractLoss):
    """A loss of the field itself or of views without a photograph, once a step. To add one, write
    one file with one final subclass.

    It is never part of a CUDA graph, so that it may read values; in steps in which it counts the
    optimizer is not part of one either.

    `debug_image` is the view that it last rendered beside its target, (height, width, 3) in [0, 1],
    and `scalars` are its last values, by name; both are logged.
    """

    needs_samples = True

    def __init__(self, weight: float = 1.0, **when: Any) -> None:
        super().__init__(weight, **when)
        self.debug_image: Tensor | None = None
        self.scalars: dict[str, Tensor] = {}

    @abstractmethod
    def forward(self, context: SceneContext) -> Tensor:
        """The value before weighting, a scalar with gradients."""
