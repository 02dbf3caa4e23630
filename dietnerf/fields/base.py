"""Radiance fields: density at a point, and color seen from a direction."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.ops import OccupancyGrid, composite

# On a CPU the activations of a chunk should stay in the cache (measured by benchmarks/bm_step.py);
# on a GPU a chunk should be large enough to fill it, and small enough to fit beside everything
# else.
SAMPLES_PER_CHUNK = {"cpu": 6144, "cuda": 2**20}


@dataclass(frozen=True)
class FrequencyBands:
    """The levels of detail of an encoding, coarse to fine.

    Args:
        weights: factor of each, 0 to 1, (n_levels,): a buffer of the field that schedules write to.
        sizes: length that each resolves, as a fraction of the longest side of the box, (n_levels,),
            float32.
    """

    weights: Tensor
    sizes: Tensor


class AbstractRadianceField(nn.Module, ABC):
    """What is trained and rendered: a field that is queried along rays, or Gaussians that are drawn
    onto whole images."""

    @property
    def bounds(self) -> Tensor | None:
        """The box (2, 3) that it is laid out for, or None where it has none."""
        return None

    def grid_parameters(self) -> list[nn.Parameter]:
        """Parameters that belong to places in the scene, such as hash tables: `table_decay` of the
        system applies to them."""
        return []

    def learning_rates(self) -> dict[str, float]:
        """Factors of the learning rate of its parameters, by name; 1 for those without one."""
        return {}

    def frequency_bands(self) -> list[FrequencyBands]:
        """The levels of detail of its encodings of positions, as far as they can be weighted."""
        return []

    def direction_bands(self) -> list[FrequencyBands]:
        """The same of view directions; the sizes are shares of a half turn."""
        return []

    def prepare(self, cameras: Cameras) -> None:
        """Called once before training, with the training cameras."""


class AbstractField(AbstractRadianceField):
    """A radiance field that is queried along rays. To add one, write one file with one final
    subclass.

    With `use_cuda_graphs` a training step is captured once and replayed. Then `density`, `color`
    and `render` must do the same operations on tensors of the same shapes in every step: they must
    not read a value back from the GPU (`.item()`, `.tolist()`, `bool(tensor)`), make tensors whose
    size depends on values (`nonzero`, `unique`, `masked_select`, boolean indexing), or copy numbers
    of the host to the device (`torch.tensor(...)`). What Python computes from other things than
    tensors stays as it was at the capture. A field that cannot do so says `is_graphable = False`,
    and is refused with that option.

    `early_stop` is the transmittance of a ray below which its further samples are ignored.
    """

    early_stop = 0.0
    is_graphable = True

    def samples_per_chunk(self, device: torch.device) -> int:
        """How many samples are evaluated at a time where more are to be rendered."""
        return SAMPLES_PER_CHUNK.get(device.type, 2**18)

    @abstractmethod
    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Density, and the features that the color is computed from.

        Returns:
            sigmas: float32, not negative, per scene unit, (n_samples,).
            features: (n_samples, n_features).
        """

    def occupancy_density(self, samples: Samples) -> Tensor:
        """Density as an occupancy grid should know it, (n_samples,)."""
        return self.density(samples)[0]

    @abstractmethod
    def color(self, features: Tensor, samples: Samples) -> Tensor:
        """Colors seen along the rays, float32 in [0, 1], (n_samples, 3)."""

    def can_trace(self, device: torch.device) -> bool:
        """Whether `trace` is available on a device."""
        return False

    def trace(self, rays: Rays, grid: OccupancyGrid) -> Rendering:
        """Volume rendering of the occupied cells of a grid, without samples, background and
        gradients."""
        raise NotImplementedError(f"{type(self).__name__} cannot trace rays")

    def render(self, samples: Samples) -> Rendering:
        """Volume rendering of the samples (NeRF, section 4, eq. 3), without a background.

        Differentiable in the parameters of the field. A field may override it with a fused version.
        """
        sigmas, features = self.density(samples)
        rgbs = self.color(features, samples)
        lengths = samples.lengths.detach()
        weights, rgb, opacity, depth = composite(
            sigmas, rgbs, lengths, samples.ts, samples.ray_offsets, self.early_stop
        )
        return Rendering(rgb, opacity, depth, weights, samples)


def queried(field: AbstractRadianceField, needed_by: str) -> AbstractField:
    """The field, for what evaluates it along rays.

    Raises:
        UserError: it cannot be.
    """
    if isinstance(field, AbstractField):
        return field
    raise UserError(
        f"{needed_by} needs samples along rays, which {type(field).__name__} do not have: leave it "
        "out, or train a field, such as --model.field dietnerf.fields.HashGrid"
    )
