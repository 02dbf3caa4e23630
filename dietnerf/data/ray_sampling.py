"""Random training rays of photographs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from dietnerf.data.dataset import ImageDataset
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays

N_REDRAWS = 8  # of masked pixels, before those that are not masked are listed


@dataclass(frozen=True)
class RayBatch:
    """Training rays with the colors that were photographed.

    Args:
        rays: (n_rays).
        rgb: colors over the background, (n_rays, 3).
        background: the color behind each ray, (n_rays, 3).
        alpha: how opaque the photographed pixels are, (n_rays,) in [0, 1], or None if they have no
            alpha.
        ids: which training camera cast each ray, int64, (n_rays,).
    """

    rays: Rays
    rgb: Tensor
    background: Tensor
    alpha: Tensor | None
    ids: Tensor

    def __len__(self) -> int:
        return len(self.rays)

    def split(self, n_rays: int) -> list[Self]:
        """Consecutive batches of at most `n_rays` rays."""
        if n_rays >= len(self):
            return [self]
        parts = [slice(i, i + n_rays) for i in range(0, len(self), n_rays)]
        return [
            replace(
                self,
                rays=self.rays[p],
                rgb=self.rgb[p],
                background=self.background[p],
                alpha=None if self.alpha is None else self.alpha[p],
                ids=self.ids[p],
            )
            for p in parts
        ]


@dataclass(frozen=True)
class RaySampling:
    """How training rays are drawn.

    Args:
        background: the color behind transparent pixels, (3,); None draws one for each ray.
        pixel_jitter: rays go through any point of their pixel, not through its center.
        one_image: all rays of a batch come from one photograph.
    """

    background: Tensor | None = None
    pixel_jitter: bool = False
    one_image: bool = False


class RaySource:
    """Photographs, from which random rays are drawn where the photographs are.

    Args:
        dataset: the training views.
        sampling: how rays are drawn.
        storage: device that holds the photographs.
        device: where the rays are wanted; None is the storage.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        sampling: RaySampling,
        storage: torch.device | str = "cpu",
        device: torch.device | str | None = None,
    ) -> None:
        self.dataset = dataset.to(storage)
        self.sampling = sampling
        self.storage = torch.device(storage)
        self.device = self.storage if device is None else torch.device(device)
        own = sampling.background
        self._background = None if own is None else own.to(storage)

    def draw(self, n_rays: int, generator: torch.Generator, fraction: float = 1.0) -> RayBatch:
        """Rays through the central `fraction` of the width and height of the photographs.

        Without masks no value is read back, so that it can be part of a CUDA graph.

        Args:
            generator: on the storage device.

        Raises:
            UserError: a mask covers all pixels of a photograph from which rays are to be drawn.
        """
        dataset = self.dataset

        def draw(low: int, high: int, n: int = n_rays) -> Tensor:
            return torch.randint(low, high, (n,), generator=generator, device=self.storage)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=self.storage)

        if self.sampling.one_image:
            ids = draw(0, len(dataset), 1).expand(n_rays)
        else:
            ids = draw(0, len(dataset))
        columns = draw(*_central(dataset.cameras.width, fraction))
        rows = draw(*_central(dataset.cameras.height, fraction))
        if dataset.masks is not None:
            self._redraw_masked(ids, columns, rows, fraction, draw)
        background = uniform(n_rays, 3) if self._background is None else self._background
        pixels = dataset.pixels(ids, columns, rows)
        rgb = dataset.rgb(pixels, background)
        if self.sampling.pixel_jitter:
            columns = columns + uniform(n_rays) - 0.5
            rows = rows + uniform(n_rays) - 0.5
        rays, alpha, device = (
            dataset.cameras.rays(ids, columns, rows),
            dataset.alpha(pixels),
            self.device,
        )
        return RayBatch(
            rays.to(device),
            rgb.to(device),
            background.expand(n_rays, 3).to(device),
            None if alpha is None else alpha.to(device),
            ids.to(device),
        )

    def _redraw_masked(
        self,
        ids: Tensor,
        columns: Tensor,
        rows: Tensor,
        fraction: float,
        draw: Callable[..., Tensor],
    ) -> None:
        """Replace masked pixels, in place, by others of the same image: so every image keeps its
        share of the rays."""
        dataset = self.dataset
        assert dataset.masks is not None
        across = _central(dataset.cameras.width, fraction)
        down = _central(dataset.cameras.height, fraction)
        for _ in range(N_REDRAWS):
            wrong = (~dataset.counts(ids, columns, rows)).nonzero().squeeze(-1)
            columns[wrong] = draw(*across, len(wrong))
            rows[wrong] = draw(*down, len(wrong))
        wrong = ~dataset.counts(ids, columns, rows)
        for image in ids[wrong].unique().tolist():
            places = dataset.masks[image, slice(*down), slice(*across)].nonzero()
            if len(places) == 0:
                raise UserError(
                    f"no pixel of {dataset.names[image]} counts where rays are drawn: correct its "
                    "mask, leave the photo out, or set precrop_steps to 0"
                )
            own = wrong & (ids == image)
            chosen = places[draw(0, len(places), int(own.sum()))]
            rows[own], columns[own] = chosen[:, 0] + down[0], chosen[:, 1] + across[0]


def _central(size: int, fraction: float) -> tuple[int, int]:
    """The range of the middle `fraction` of `size` pixels, at least one of them."""
    margin = min(math.floor(size * (1 - fraction) / 2), (size - 1) // 2)
    return margin, size - margin
