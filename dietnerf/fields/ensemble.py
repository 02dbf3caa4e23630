"""Ensembles: the mean of several fields errs less where the photographs leave a scene open."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.fields.base import AbstractField, FrequencyBands
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering, Samples

MOST_MEMBERS = 64


@final
class Ensemble(AbstractField):
    """Fields that start from different weights and are trained on different rays; an image is the
    mean of theirs (deep ensembles, Lakshminarayanan et al. 2017).

    In training a batch of rays is split among them, so that a step costs as much as with one field,
    and each field learns from a batch n times smaller. An image costs n times as much.

    Args:
        field: makes a member.
        n: number of members.
    """

    is_graphable = False  # which rays a member is given follows from their number of samples

    def __init__(self, field: Callable[[], AbstractField], n: int = 4) -> None:
        super().__init__()
        if not 1 <= n <= MOST_MEMBERS:
            raise UserError(f"Ensemble: n must be 1 to {MOST_MEMBERS}, got {n}")
        self.members = nn.ModuleList(field() for _ in range(n))

    @property
    def fields(self) -> list[AbstractField]:
        """The members."""
        return [member for member in self.members if isinstance(member, AbstractField)]

    @property
    def early_stop(self) -> float:  # type: ignore[override]
        return self.fields[0].early_stop

    @property
    def bounds(self) -> Tensor | None:
        return self.fields[0].bounds

    def grid_parameters(self) -> list[nn.Parameter]:
        return [table for member in self.fields for table in member.grid_parameters()]

    def frequency_bands(self) -> list[FrequencyBands]:
        return [bands for member in self.fields for bands in member.frequency_bands()]

    def direction_bands(self) -> list[FrequencyBands]:
        return [bands for member in self.fields for bands in member.direction_bands()]

    def samples_per_chunk(self, device: torch.device) -> int:
        return self.fields[0].samples_per_chunk(device)

    def prepare(self, cameras: Cameras) -> None:
        for member in self.fields:
            member.prepare(cameras)

    def render(self, samples: Samples) -> Rendering:
        if self.training:
            pairs = zip(self.fields, samples.split(len(self.fields)), strict=True)
            return Rendering.joined([member.render(own) for member, own in pairs], samples)
        found = [member.render(samples) for member in self.fields]
        rgb, opacity, depth, weights = (
            torch.stack([getattr(rendering, name) for rendering in found]).mean(dim=0)
            for name in ("rgb", "opacity", "depth", "weights")
        )
        return Rendering(rgb, opacity, depth, weights, samples)

    def occupancy_density(self, samples: Samples) -> Tensor:
        sigmas = [member.occupancy_density(samples) for member in self.fields]
        return torch.stack(sigmas).amax(dim=0)

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        if self.training:
            pairs = zip(self.fields, samples.split(len(self.fields)), strict=True)
            sigmas, features = zip(*(member.density(own) for member, own in pairs), strict=True)
            return torch.cat(sigmas), torch.cat(features)
        sigmas, features = zip(*(member.density(samples) for member in self.fields), strict=True)
        return torch.stack(sigmas).mean(dim=0), torch.cat(features, dim=1)

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        if self.training:
            parts = list(samples.split(len(self.fields)))
            own = features.split([len(part) for part in parts])
            triples = zip(self.fields, own, parts, strict=True)
            return torch.cat([member.color(f, part) for member, f, part in triples])
        own = features.chunk(len(self.fields), dim=1)
        pairs = zip(self.fields, own, strict=True)
        return torch.stack([member.color(f, samples) for member, f in pairs]).mean(dim=0)
