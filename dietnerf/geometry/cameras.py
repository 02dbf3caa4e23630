"""Cameras in the OpenGL convention: x right, y up, the camera looks along -z."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.lens_table import LensTable
from dietnerf.geometry.lenses import Lenses
from dietnerf.geometry.rays import Rays

MOST_PIXELS = 178_000_000  # of an image, the limit of Pillow
ROUND_OFF = 0.01  # of a rotation's entries
BAND = 64  # rows of an image that are undistorted at a time


@dataclass(frozen=True)
class Cameras:
    """A batch of cameras with one image size.

    Args:
        c2w: rigid camera-to-world matrices, (n, 3, 4), float32.
        focal: focal lengths in pixels along x and y, (n, 2).
        center: principal points in pixels from the upper left corner of the image, (n, 2). The
            center of pixel (column i, row j) lies at (i + 0.5, j + 0.5).
        near: nearest distance along the camera axis, scene units, (n,).
        far: farthest distance along the camera axis, scene units, (n,).
        width, height: size of the images in pixels.
        distortion: coefficients of the lenses (`geometry/lenses.py`), (n, 9), or None for pinhole
            cameras.
        is_fisheye: whether distortion is a function of the angle from the axis, bool, (n,); given
            with `distortion`.
    """

    c2w: Tensor
    focal: Tensor
    center: Tensor
    near: Tensor
    far: Tensor
    width: int
    height: int
    distortion: Tensor | None = None
    is_fisheye: Tensor | None = None

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def __getitem__(self, index: slice | Tensor | list[int]) -> Self:
        """A batch of the chosen cameras; to pick one, give a slice or a list of length one."""
        return self._with_each(lambda values: values[index])

    def to(self, device: torch.device | str) -> Self:
        return self._with_each(lambda values: values.to(device))

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A batch with a function applied to each field that has a row per camera."""
        values = self.to_dict().items()
        changed: dict[str, Any] = {k: change(v) for k, v in values if isinstance(v, Tensor)}
        return replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, of which a checkpoint keeps them: `Cameras(**saved)`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """The cameras that `to_dict` gave.

        Raises:
            UserError: they are not those fields, or hold impossible values.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(saved, dict) or saved.keys() != names:
            raise UserError(f"cameras must have {', '.join(sorted(names))}, and nothing else")
        cameras = cls(**saved)
        n = len(saved["near"]) if isinstance(saved["near"], Tensor) and saved["near"].ndim else 0
        shapes = {"c2w": (n, 3, 4), "focal": (n, 2), "center": (n, 2), "near": (n,), "far": (n,)}
        if cameras.distortion is not None:
            shapes["distortion"] = (n, 9)
        for name, shape in shapes.items():
            if not is_tensor(saved[name], shape, torch.float32) or n == 0:
                raise UserError(f"{name} of the cameras must be finite numbers {shape}, float32")
        has_lens = is_tensor(cameras.is_fisheye, (n,), torch.bool)
        if has_lens != (cameras.distortion is not None) or not (
            has_lens or cameras.is_fisheye is None
        ):
            raise UserError("distortion and is_fisheye of the cameras must be given together")
        cameras._check_ranges()
        return cameras

    def _check_ranges(self) -> None:
        sizes = (self.width, self.height)
        if not all(type(size) is int and size > 0 for size in sizes) or (
            self.width * self.height > MOST_PIXELS
        ):
            raise UserError(
                f"the cameras' pictures are {self.width!r:.30} x {self.height!r:.30} pixels; they "
                f"must be at least 1 x 1, and of at most {MOST_PIXELS // 10**6} million pixels"
            )
        if not ((self.near >= 0) & (self.near < self.far) & (self.focal > 0).all(dim=1)).all():
            raise UserError("the cameras must have 0 <= near < far, and positive focal lengths")
        turns = self.c2w[:, :, :3]
        off = (turns @ turns.transpose(1, 2) - torch.eye(3)).abs().max()
        if off > ROUND_OFF:
            raise UserError(f"the cameras' poses must be rotations, and are off by {off:.2g}")

    @cached_property
    def lenses(self) -> Lenses | None:
        """The lenses of the cameras, (n,), or None for pinhole cameras."""
        if self.distortion is None or self.is_fisheye is None:
            return None
        return Lenses.of(self.distortion, self.is_fisheye)

    @cached_property
    def _lens_table(self) -> tuple[LensTable, Tensor] | None:
        """Table of the different lenses, and which of them each camera has, (n,)."""
        if self.distortion is None or self.is_fisheye is None:
            return None
        size = self.center.new_tensor([self.width, self.height])
        low, high = (-1 - self.center) / self.focal, (size + 1 - self.center) / self.focal
        rows = torch.cat([self.distortion, self.is_fisheye[:, None], low, high], dim=1)
        different, which = rows.unique(dim=0, return_inverse=True)
        distortion, is_fisheye, low, high = different.split([9, 1, 2, 2], dim=1)
        return LensTable.of(Lenses.of(distortion, is_fisheye[:, 0].bool()), low, high), which

    @property
    def positions(self) -> Tensor:
        """Centers of projection, (n, 3)."""
        return self.c2w[:, :, 3]

    def with_poses(self, c2w: Tensor) -> Self:
        """The first camera at other poses (m, 3, 4)."""
        m = c2w.shape[0]
        first = self[:1]._with_each(lambda values: values.expand(m, *values.shape[1:]))
        return replace(first, c2w=c2w)

    def resized(self, width: int, height: int) -> Self:
        """The same view with another number of pixels."""
        scale = torch.tensor([width / self.width, height / self.height])
        return replace(
            self, focal=self.focal * scale, center=self.center * scale, width=width, height=height
        )

    def windowed(self, left: float, top: float, side: float, n_pixels: int) -> Self:
        """A square part of the view, `side` pixels wide from (left, top) on, with `n_pixels` along
        each edge."""
        scale = n_pixels / side
        center = (self.center - torch.tensor([left, top])) * scale
        return replace(
            self, focal=self.focal * scale, center=center, width=n_pixels, height=n_pixels
        )

    def framed(self, width: int, height: int) -> Self:
        """The same vertical field of view in a frame of another shape, with square pixels."""
        scale = height / self.height
        margin = (width - self.width * scale) / 2
        center = self.center * scale + torch.tensor([margin, 0.0])
        return replace(self, focal=self.focal * scale, center=center, width=width, height=height)

    def rays(self, ids: Tensor, columns: Tensor, rows: Tensor) -> Rays:
        """Rays through pixel centers, with directions of length one along the camera axis.

        So t is the distance along the axis (z-depth), as in the NeRF authors' code.

        Args:
            ids: which camera, int64, (n_rays,).
            columns, rows: pixel indices, (n_rays,).
        """

        def own(values: Tensor) -> Tensor:  # much faster than values[ids]
            return values.index_select(0, ids)

        pixels = torch.stack([columns, rows], dim=-1) + 0.5
        places = (pixels - own(self.center)) / own(self.focal)
        if self._lens_table is not None:
            lenses, which = self._lens_table
            places = lenses.undistort(own(which), places)
        x, y = places.split(1, dim=-1)
        right, up, backward, rays_o = own(self.c2w).unbind(-1)
        rays_d = x * right - y * up - backward  # no matrix product: autocast would halve it
        return Rays(rays_o, rays_d, own(self.near), own(self.far))

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where each camera sees points (n_points, 3).

        Returns:
            Places from -1 to 1 across the image, x to the right and y down, (n, n_points, 2), and
            whether they are in the image, (n, n_points).
        """
        right, up, backward, center = self.c2w.unbind(-1)  # (n, 3) each
        offsets = points - center[:, None]

        def along(axis: Tensor) -> Tensor:
            return (offsets * axis[:, None]).sum(dim=-1)

        distance = -along(backward)
        ahead = distance.clamp(min=1e-6)
        pixels = torch.stack([along(right) / ahead, -along(up) / ahead], dim=-1)
        is_ahead = distance > 1e-6
        if self.lenses is not None:
            pixels, is_shown = self.lenses[:, None].distort(pixels)
            is_ahead &= is_shown
        pixels = pixels * self.focal[:, None] + self.center[:, None]
        columns, rows = (2 * pixels).unbind(-1)
        # No tensor of width and height: its copy to a GPU would not go into a CUDA graph.
        places = torch.stack([columns / self.width, rows / self.height], dim=-1) - 1
        return places, is_ahead & (places.abs() <= 1).all(dim=-1)

    def shown(self, index: int) -> Tensor | None:
        """Mask of the pixels within the reach of the lens, (height, width), or None where that is
        all of them."""
        if self.lenses is None:
            return None
        columns, rows = torch.arange(self.width), torch.arange(self.height)
        sides = [(columns, rows[[0, -1], None]), (columns[[0, -1]], rows[:, None])]
        if all(bool(self._is_shown(index, *side).all()) for side in sides):
            return None  # then the inner ones are, too
        bands = [self._is_shown(index, columns, band[:, None]) for band in rows.split(BAND)]
        is_shown = torch.cat(bands)
        return None if bool(is_shown.all()) else is_shown

    def _is_shown(self, index: int, columns: Tensor, rows: Tensor) -> Tensor:
        assert self.lenses is not None, "pinhole cameras show everything"
        pixels = torch.stack(torch.broadcast_tensors(columns, rows), dim=-1) + 0.5
        places = (pixels - self.center[index]) / self.focal[index]
        return self.lenses[torch.tensor(index)].undistort(places)[1]

    def image_rays(self, index: int, pixels: Tensor | None = None) -> Rays:
        """Rays of one image.

        Args:
            index: which camera.
            pixels: numbers of pixels, counted row by row, int64, (n_rays,); None for all of them,
                (height * width).
        """
        if pixels is None:
            pixels = torch.arange(self.height * self.width, device=self.c2w.device)
        ids = torch.full_like(pixels, index)
        return self.rays(ids, pixels % self.width, pixels // self.width)


def is_tensor(value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether it is a tensor of that shape and type, without NaN or infinity."""
    if not isinstance(value, Tensor) or value.shape != shape or value.dtype != dtype:
        return False
    return bool(value.isfinite().all())
