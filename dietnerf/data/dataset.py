"""The photographs of a split with their cameras: what readers make and training draws rays from."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


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

    def edge_color(self) -> Tensor:
        """The mean color, (3,) in [0, 1], of what counts in the outer tenth of each photograph, or
        where nothing there does in all of it."""
        _, height, width, _ = self.images.shape
        rows, columns = max(1, height // 10), max(1, width // 10)
        is_edge = torch.ones(height, width, dtype=torch.bool)
        is_edge[rows : height - rows, columns : width - columns] = False
        for chosen in (is_edge, torch.ones_like(is_edge)):
            total, n_pixels = torch.zeros(3, dtype=torch.float64), 0
            for i, image in enumerate(self.images.cpu()):
                counts = chosen if self.masks is None else chosen & self.masks[i].cpu()
                total += image[counts][:, :3].sum(dim=0)
                n_pixels += int(counts.sum())
            if n_pixels:
                return (total / (255 * n_pixels)).float()
        return torch.ones(3)

    def image(self, index: int, background: Tensor) -> Tensor:
        """View `index` over a background (3,): (height, width, 3) in [0, 1]."""
        return self.rgb(self.images[index], background)


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
