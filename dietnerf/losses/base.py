"""What a training step is judged by."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from dietnerf.geometry.rays import Rays, Rendering


@dataclass(frozen=True)
class Step:
    """One bundle of training rays with its rendering.

    Args:
        index: number of optimisation steps taken so far.
        rays: (n_rays).
        target: colours that were photographed, (n_rays, 3).
        rendering: colours of the field, (n_rays).
        coarse: the rendering that guided its samples, if there was one.
    """

    index: int
    rays: Rays
    target: Tensor
    rendering: Rendering
    coarse: Rendering | None


class AbstractLoss(nn.Module, ABC):
    """One term of the objective: a mean over rays. To add one, write one file with one final
    subclass.

    A step may be worked through in chunks of rays, whose values are averaged.

    Args:
        weight: factor in the sum of all losses.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return type(self).__name__.lower()

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """The value before weighting, a scalar with gradients."""
