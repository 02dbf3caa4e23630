"""Whole photographs, for validation and test."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dietnerf.data.dataset import ImageDataset
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering


@dataclass(frozen=True)
class View:
    """A whole photograph.

    Args:
        name: its name in metrics and file names.
        view_id: its number in the list of its split.
        image: over the background, (height, width, 3) in [0, 1].
        background: (3,), or None where the photograph is opaque everywhere.
        cameras: its camera, a batch of one.
        mask: which pixels count, bool, (height, width), or None where all do.
    """

    name: str
    view_id: int
    image: Tensor
    background: Tensor | None
    cameras: Cameras
    mask: Tensor | None = None

    def to(self, device: torch.device | str) -> Self:
        """The photograph on a device; cameras stay where they are."""
        return replace(
            self,
            image=self.image.to(device),
            background=None if self.background is None else self.background.to(device),
            mask=None if self.mask is None else self.mask.to(device),
        )


@dataclass(frozen=True)
class RenderedView:
    """A photograph with its rendering: the output of validation, test and predict steps.

    Args:
        view: the photograph.
        rendering: of height * width rays, row by row.
    """

    view: View
    rendering: Rendering

    @property
    def rgb(self) -> Tensor:
        """The rendered colors, (height, width, 3)."""
        return self.rendering.rgb.view_as(self.view.image)


class Views(Dataset[View]):
    """All views of a split, one after the other."""

    def __init__(self, dataset: ImageDataset, background: Tensor) -> None:
        self.dataset = dataset
        self.background = background

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> View:
        dataset = self.dataset
        return View(
            dataset.names[index],
            int(dataset.view_ids[index]),
            dataset.image(index, self.background),
            self.background if dataset.has_alpha else None,
            dataset.cameras[[index]],
            None if dataset.masks is None else dataset.masks[index],
        )
