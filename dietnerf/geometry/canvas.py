"""Pinhole images from which the image of a camera with a lens is resampled."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras

WIDEST = 3.0  # times the pixels of the image
COARSE = 128  # pixels along the longer side of images that tell whether a lens is too wide


@dataclass(frozen=True)
class Canvas:
    """A pinhole image that holds all that a camera with a lens shows.

    Args:
        width, height: of the pinhole image, pixels.
        center: its principal point, (2,).
        places: where in it each pixel of the lens's image lies, from -1 to 1, (height, width, 2) of
            the latter; beyond where the lens shows nothing.
    """

    width: int
    height: int
    center: Tensor
    places: Tensor

    @classmethod
    def of(cls, camera: Cameras) -> "Canvas":
        """Of a batch of one camera.

        Raises:
            UserError: its lens is so wide that a pinhole image would be too large.
        """
        assert camera.lenses is not None, "a pinhole camera needs no canvas"
        host = camera.to("cpu")
        columns, rows = torch.arange(host.width), torch.arange(host.height)
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1) + 0.5
        lenses = host.lenses
        assert lenses is not None
        plane, is_shown = lenses[torch.tensor(0)].undistort((grid - host.center[0]) / host.focal[0])
        pixels = plane * host.focal[0]  # from the principal point
        low = pixels[is_shown].amin(dim=0).floor() - 1
        high = pixels[is_shown].amax(dim=0).ceil() + 1
        width, height = (int(side) for side in high - low)
        if width * height > WIDEST * host.width * host.height:
            raise UserError(
                "Gaussians are drawn by pinhole cameras; this lens is too wide for one "
                f"({width}x{height} pixels for {host.width}x{host.height}): undistort the photos, "
                "or train a field, as configs/photos.yaml"
            )
        places = 2 * (pixels - low) / (high - low) - 1
        places = torch.where(is_shown[..., None], places, 2.0)
        device = camera.c2w.device
        return cls(width, height, -low.to(device), places.float().to(device))

    def camera(self, camera: Cameras) -> Cameras:
        """The pinhole camera at the place of `camera`, for which the canvas was made."""
        return replace(
            camera,
            center=self.center[None],
            width=self.width,
            height=self.height,
            distortion=None,
            is_fisheye=None,
        )

    def resample(self, image: Tensor, mode: str = "bilinear") -> Tensor:
        """What the lens shows of the pinhole image (height, width, n), differentiable; 0 where it
        shows nothing.

        Args:
            mode: `bilinear`, or `nearest` where a mean of two pixels means nothing.
        """
        channels = image.permute(2, 0, 1)[None]
        shown = F.grid_sample(channels, self.places[None], mode=mode, align_corners=False)
        return shown[0].permute(1, 2, 0)


def check_drawable(cameras: Cameras) -> None:
    """Check that the lenses of a batch of cameras can be drawn, on small images.

    Raises:
        UserError: one is so wide that a pinhole image would be too large.
    """
    if cameras.lenses is None:
        return
    shrink = max(1.0, max(cameras.width, cameras.height) / COARSE)
    small = cameras.resized(round(cameras.width / shrink), round(cameras.height / shrink))
    distinct = {canvas_key(small[[i]]): i for i in range(len(small))}
    for i in distinct.values():
        Canvas.of(small[[i]])


def canvas_key(camera: Cameras) -> tuple[object, ...]:
    """What a canvas depends on, of a batch of one camera."""
    assert camera.distortion is not None and camera.is_fisheye is not None
    parts = (camera.focal, camera.center, camera.distortion, camera.is_fisheye)
    numbers = [float(x) for part in parts for x in part[0].reshape(-1)]
    assert all(map(math.isfinite, numbers))
    return (*numbers, camera.width, camera.height, camera.c2w.device)
