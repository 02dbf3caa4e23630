"""Whole training photographs, one in a step: what Gaussians are trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.geometry.cameras import Cameras

SMALLEST = 64  # pixels along the shorter side


@dataclass(frozen=True)
class ViewBatch:
    """All pixels of a training photograph, row by row.

    Args:
        camera: a batch of one, whose image has the size of the view.
        rgb: colors over the background, (height * width, 3).
        background: the color behind the view, (3,).
        alpha: how opaque the photographed pixels are, (height * width,) in [0, 1], or None if they
            have no alpha.
        counts: which pixels count, bool, (height * width,), or None where all do.
        ids: which training camera took it, int64, (height * width,).
    """

    camera: Cameras
    rgb: Tensor
    background: Tensor
    alpha: Tensor | None
    counts: Tensor | None
    ids: Tensor

    def __len__(self) -> int:
        return len(self.rgb)


class ViewSource:
    """Photographs, from which whole views are drawn.

    Args:
        dataset: the training views.
        background: the color behind transparent pixels, (3,); None draws one for each view.
        device: where the views are wanted.
    """

    def __init__(
        self, dataset: ImageDataset, background: Tensor | None, device: torch.device | str = "cpu"
    ) -> None:
        self.dataset = dataset
        self.device = torch.device(device)
        self._background = background

    def draw(self, generator: torch.Generator, n_halvings: int = 0) -> ViewBatch:
        """A view, drawn at random.

        Args:
            generator: on the CPU.
            n_halvings: how often width and height of the photograph, whose pixels are averaged,
                are halved: at most as often as both keep `SMALLEST` pixels.
        """
        dataset = self.dataset
        index = int(torch.randint(len(dataset), (1,), generator=generator))
        drawn = torch.rand(3, generator=generator)
        background = drawn if self._background is None else self._background.cpu()
        camera = dataset.cameras[[index]]
        channels = [dataset.image(index, background)]
        alpha = dataset.alpha(dataset.images[index])
        if alpha is not None:
            channels.append(alpha[..., None])
        if dataset.masks is not None:
            channels.append(dataset.masks[index, ..., None].float())
        image = torch.cat(channels, dim=-1)
        while min(camera.width, camera.height) >> n_halvings < SMALLEST and n_halvings > 0:
            n_halvings -= 1
        if n_halvings > 0:
            width, height = camera.width >> n_halvings, camera.height >> n_halvings
            camera = camera.resized(width, height)
            image = F.interpolate(image.permute(2, 0, 1)[None], (height, width), mode="area")
            image = image[0].permute(1, 2, 0)
        values = image.reshape(-1, image.shape[-1]).to(self.device)
        counts = None
        if dataset.masks is not None:
            counts = values[:, -1] > 0.999
            if not counts.any():  # of a mask finer than the view's pixels
                counts = values[:, -1] > 0.5
        ids = torch.full((len(values),), index, device=self.device)
        return ViewBatch(
            camera.to(self.device),
            values[:, :3],
            background.to(self.device),
            None if alpha is None else values[:, 3],
            counts,
            ids,
        )
