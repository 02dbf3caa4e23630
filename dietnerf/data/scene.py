"""A scene: photographs with their cameras. Readers make it; others ask it for colors and rays."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from dietnerf.errors import UserError, printable
from dietnerf.geometry.cameras import Cameras, is_tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
LONGEST_NAME = 100  # of a view, which names files, too


@dataclass(frozen=True)
class ImageDataset:
    """One split of a capture.

    Args:
        images: 8-bit sRGB with straight alpha, or without alpha, (n, height, width, 4 or 3), uint8.
            With `is_premultiplied` the colors are already weighted by alpha.
        cameras: one for each image.
        view_ids: number of each view in its split's full list, int64, (n,).
        names: what each view is called in messages and metrics.
        depths: distance along the camera axis, 0 where nothing is hit, (n, height, width), or None.
        is_premultiplied: colors were weighted by alpha before they were averaged.
        masks: which pixels count, bool, (n, height, width), or None where all do.
    """

    images: Tensor
    cameras: Cameras
    view_ids: Tensor
    names: tuple[str, ...]
    depths: Tensor | None = None
    is_premultiplied: bool = False
    masks: Tensor | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def has_alpha(self) -> bool:
        return self.images.shape[-1] == 4

    def subset(self, keep: list[int]) -> Self:
        """The views at positions `keep`, in that order."""
        return replace(
            self,
            images=self.images[keep],
            cameras=self.cameras[keep],
            view_ids=self.view_ids[keep],
            names=tuple(self.names[i] for i in keep),
            depths=None if self.depths is None else self.depths[keep],
            masks=None if self.masks is None else self.masks[keep],
        )

    def to(self, device: torch.device | str) -> Self:
        """The photographs and their cameras on a device."""
        return replace(
            self,
            images=self.images.to(device),
            cameras=self.cameras.to(device),
            depths=None if self.depths is None else self.depths.to(device),
            masks=None if self.masks is None else self.masks.to(device),
        )

    def pixels(self, ids: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        """Single 8-bit pixels, (n, 3 or 4), of images `ids` (n,)."""
        _, height, width, n_channels = self.images.shape
        places = (ids * height + rows) * width + columns
        return self.images.view(-1, n_channels).index_select(0, places)

    def counts(self, ids: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
        """Whether pixels count, bool, (n,)."""
        if self.masks is None:
            return torch.ones_like(ids, dtype=torch.bool)
        _, height, width = self.masks.shape
        return self.masks.view(-1).index_select(0, (ids * height + rows) * width + columns)

    def rgb(self, pixels: Tensor, background: Tensor) -> Tensor:
        """8-bit pixels (..., 3 or 4) over a background (3,) or (..., 3): colors in [0, 1]."""
        colors = pixels / 255
        if not self.has_alpha:
            return colors
        rgb, alpha = colors[..., :3], colors[..., 3:]
        if self.is_premultiplied:
            return rgb + (1 - alpha) * background
        return torch.lerp(background.expand_as(rgb), rgb, alpha)

    def alpha(self, pixels: Tensor) -> Tensor | None:
        """Of 8-bit pixels (..., 4), (...) in [0, 1]; None where photographs have none."""
        return pixels[..., 3] / 255 if self.has_alpha else None

    @property
    def is_cut_out(self) -> bool:
        """Whether photos are transparent somewhere: nothing is behind what they show."""
        return self.has_alpha and bool((self.images[..., 3] < 255).any())

    def image(self, index: int, background: Tensor) -> Tensor:
        """View `index` over a background (3,): (height, width, 3) in [0, 1]."""
        return self.rgb(self.images[index], background)


@dataclass(frozen=True)
class DatasetIndex:
    """The views of a split, before their pixels are read.

    Args:
        cameras: one for each view.
        view_ids: as in `ImageDataset`, (n,).
        names: as in `ImageDataset`, n of them.
        bytes_per_view: memory that each view takes once it is read.
        load: reads the views at the given positions, in that order.
    """

    cameras: Cameras
    view_ids: Tensor
    names: tuple[str, ...]
    bytes_per_view: int
    load: Callable[[list[int]], ImageDataset]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, keep: list[int] | None = None) -> ImageDataset:
        """The views at positions `keep`, in that order, or all.

        Raises:
            UserError: the file of one of them is broken.
        """
        return self.load(list(range(len(self))) if keep is None else keep)


def view_names(files: list[str]) -> tuple[str, ...]:
    """What views are called by the names of their files: without folders, or with them joined where
    the same one comes twice."""
    short = [Path(name).stem for name in files]
    if len(set(short)) < len(short):
        short = [str(Path(name).with_suffix("")).replace("/", "_") for name in files]
    plain = [printable(name)[:LONGEST_NAME] for name in short]
    if len(set(plain)) == len(plain):
        return tuple(plain)
    return tuple(f"{name}_{i}" for i, name in enumerate(plain))


class AbstractReader(ABC):
    """Reads a capture in one format. To add a format, write one file with one final subclass.

    `downscale` is how many times smaller than the files its images are, once a split was listed.
    """

    downscale: float = 1.0

    @abstractmethod
    def listing(self, split: Split) -> DatasetIndex | None:
        """The views of a split, or None where the capture has no such split.

        Raises:
            UserError: a file is missing, broken, or says something impossible.
        """

    def read(self, split: Split) -> ImageDataset | None:
        """All views of a split with their pixels."""
        listing = self.listing(split)
        return None if listing is None else listing.read()

    def cameras(self, split: Split) -> Cameras | None:
        """The cameras of a split."""
        listing = self.listing(split)
        return None if listing is None else listing.cameras


def without_full_alpha(dataset: ImageDataset) -> ImageDataset:
    """The dataset without its alpha channel where that is 255 in all pixels, which is no matte."""
    if not dataset.has_alpha or dataset.is_cut_out:
        return dataset
    return replace(dataset, images=dataset.images[..., :3].contiguous(), is_premultiplied=False)


def require_alpha(dataset: ImageDataset, option: str) -> None:
    """Refuse photographs without alpha for what needs it, as the loss Silhouette."""
    if not dataset.has_alpha:
        raise UserError(
            f"{option} needs images with an alpha channel, but {dataset.names[0]} has none that is "
            "below 255 anywhere: export RGBA images with a matte, or do without it"
        )


@dataclass(frozen=True)
class Capture:
    """What a checkpoint keeps of a capture, so that it can be rendered without the photographs.

    Args:
        cameras: of each split that is known.
        view_ids: numbers of the views of each split that was read.
        background: the color behind the scene, (3,).
    """

    cameras: dict[Split, Cameras]
    view_ids: dict[Split, list[int]]
    background: Tensor

    def to_dict(self) -> dict[str, Any]:
        """Plain containers and tensors, which load without running code."""
        return {
            "cameras": {split: cameras.to_dict() for split, cameras in self.cameras.items()},
            "view_ids": self.view_ids,
            "background": self.background,
        }

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """What `to_dict` gave.

        Raises:
            UserError: it is something else, or no camera could be like that.
        """
        if not isinstance(saved, dict) or saved.keys() != {f.name for f in fields(cls)}:
            raise UserError("the capture has other entries than cameras, view_ids and background")
        cameras, view_ids, background = (saved[f.name] for f in fields(cls))
        for name, splits in (("cameras", cameras), ("view_ids", view_ids)):
            if not isinstance(splits, dict) or not splits.keys() <= set(SPLITS):
                raise UserError(f"the capture's {name} must be given for {', '.join(SPLITS)}")
        for ids in view_ids.values():
            if not isinstance(ids, list) or not all(type(i) is int and i >= 0 for i in ids):
                raise UserError(f"the capture's view_ids must be numbers of views, got {ids!r:.60}")
        if (
            not is_tensor(background, (3,), torch.float32)
            or not ((background >= 0) & (background <= 1)).all()
        ):
            raise UserError("the capture's background must be a color, three numbers in [0, 1]")
        found = {split: Cameras.from_dict(values) for split, values in cameras.items()}
        return cls(found, view_ids, background)
