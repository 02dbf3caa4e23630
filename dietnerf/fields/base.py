"""What every radiance field answers: how dense is it here, and which colour is seen from there."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from dietnerf.geometry.rays import Rendering, Samples
from dietnerf.ops import composite


class AbstractField(nn.Module, ABC):
    """A radiance field. To add one, write one file with one final subclass."""

    @property
    def bounds(self) -> Tensor | None:
        """The box (2, 3) outside which the field is empty, or None where it has none."""
        return None

    @abstractmethod
    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Density and whatever the colour is computed from.

        Returns:
            sigmas: float32, not negative, per scene unit, (n_samples,).
            features: (n_samples, n_features).
        """

    @abstractmethod
    def colour(self, features: Tensor, samples: Samples) -> Tensor:
        """Colours seen along the rays, float32 in [0, 1], (n_samples, 3)."""

    def render(self, samples: Samples) -> Rendering:
        """Volume rendering of the samples (NeRF, section 4, eq. 3), without a background.

        Differentiable in the parameters of the field. A field may override it with a fused version.
        """
        sigmas, features = self.density(samples)
        rgbs = self.colour(features, samples)
        lengths = samples.lengths.detach()
        weights, rgb, opacity, depth = composite(
            sigmas, rgbs, lengths, samples.ts, samples.ray_offsets
        )
        return Rendering(rgb, opacity, depth, weights)
