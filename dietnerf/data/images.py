"""Image files in, 8-bit tensors out; and the one way in which images are made smaller."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dietnerf.data.arrays import array_shape, read_array
from dietnerf.data.image_files import open_image
from dietnerf.errors import UserError

ResizeAlpha = Literal["straight", "premultiplied"]
MOST_NUMBERS = 200_000_000  # in an array: somewhat more than Pillow reads of pixels
EXIF_ORIENTATION = 0x0112


def read_image(path: Path, is_turned: bool = False) -> Tensor:
    """One image file as sRGB with straight alpha, or without alpha: (height, width, 4 or 3), uint8.

    Gray and palette images become color; 16-bit ones are rounded to 8 bit.

    Args:
        path: the file.
        is_turned: turn it upright as its EXIF orientation says, instead of taking the pixels as
            they are stored.

    Raises:
        UserError: the file is no image, is cut short, is animated, or holds no 8- or 16-bit
            integers.
    """
    with open_image(path) as file:
        clear = "transparency" in file.info  # one palette entry or color that stands for it
        pixels = _pixels(file, "RGBA" if clear else _plain_mode(file), is_turned)
    return torch.from_numpy(_to_color(_to_8_bit(pixels, path), path))


def _pixels(image: Image.Image, mode: str | None, is_turned: bool = False) -> np.ndarray:
    """The picture in a mode of Pillow, or as it is, with (height, width) or another axis more."""
    if mode is not None:
        image = image.convert(mode)
    if is_turned:
        ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image)


def _plain_mode(image: Image.Image) -> str | None:
    """What Pillow shall convert a picture to, if it is not one number or color a pixel."""
    if image.mode == "P" and image.palette is not None:
        return image.palette.mode
    return "RGB" if image.mode == "CMYK" else None


def encoded(picture: Image.Image, kind: str, **options: Any) -> memoryview:
    """A picture as the content of a file: Pillow itself does not say why a disk takes nothing.

    Args:
        picture: any.
        kind: Pillow's name of the format, as PNG.
        options: of that format.
    """
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getbuffer()


@dataclass(frozen=True)
class Header:
    """Width and height of an image as it is stored, and the channels it is read with, 3 or 4."""

    width: int
    height: int
    n_channels: int


def read_header(path: Path) -> Header:
    """What an image file says of itself, without its pixels."""
    with open_image(path, is_decoded=False) as file:
        return Header(*file.size, 4 if file.has_transparency_data else 3)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as it is stored, from its header."""
    header = read_header(path)
    return header.width, header.height


def is_stored_sideways(path: Path) -> bool:
    """Whether EXIF says that an image is to be turned by a quarter to stand upright."""
    with open_image(path, is_decoded=False) as file:
        return file.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)


def map_size(path: Path) -> tuple[int, int]:
    """Width and height of what `read_numbers` reads, from its header.

    Raises:
        UserError: as `read_numbers`.
    """
    if path.suffix.lower() != ".npy":
        return image_size(path)
    shape = array_shape(path, MOST_NUMBERS)
    if len(shape) not in (2, 3) or not math.prod(shape):
        raise _no_map(path, shape)
    return shape[1], shape[0]


def read_numbers(path: Path) -> np.ndarray:
    """One channel as it is stored, 8 or 16 bit or float, or a NumPy array: (height, width).

    Raises:
        UserError: the file is broken, or holds something else.
    """
    if path.suffix.lower() == ".npy":
        values = read_array(path, MOST_NUMBERS)
    else:
        with open_image(path) as file:
            values = _pixels(file, _plain_mode(file))
    if values.ndim == 3:
        values = values[:, :, 0]
    if (
        values.ndim != 2
        or not values.size
        or not (np.issubdtype(values.dtype, np.number) or values.dtype == bool)
    ):
        raise _no_map(path, values.shape)
    return values


def _no_map(path: Path, shape: tuple[int, ...]) -> UserError:
    return UserError(f"{path} has shape {shape}: export it with one number a pixel")


def _to_8_bit(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint16:
        return np.rint(pixels / 257.0).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UserError(f"{path} holds {pixels.dtype} pixels: export it with 8 bits a channel")
    return pixels


def _to_color(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4):
        raise UserError(f"{path} has shape {pixels.shape}: export it as one RGB or RGBA image")
    gray = {1: [0, 0, 0], 2: [0, 0, 0, 1]}.get(pixels.shape[-1])
    return np.array(pixels if gray is None else pixels[:, :, gray])


def resize_area(image: Tensor, width: int, height: int) -> Tensor:
    """Exact average over the area of each new pixel, as OpenCV's INTER_AREA: (height, width, c).

    Args:
        image: float or uint8, (h, w, c).
        width, height: the new size, at most the old one and not necessarily a divisor of it.
    """
    columns_first = _average_rows(image, height).transpose(0, 1).contiguous()
    return _average_rows(columns_first, width).transpose(0, 1)


def _average_rows(image: Tensor, n_out: int) -> Tensor:
    """Rows weighted by the share of each new row that they cover: a band matrix times the image."""
    n_in = image.shape[0]
    edges = torch.arange(n_out + 1, dtype=torch.float64) * n_in / n_out
    first = edges[:-1].floor().long()
    mean = torch.zeros(n_out, *image.shape[1:])
    for k in range(math.ceil(n_in / n_out) + 1):
        row = first + k
        overlap = torch.minimum(edges[1:], row + 1) - torch.maximum(edges[:-1], row)
        share = (overlap.clamp(min=0) * n_out / n_in).float()
        if share.any():
            own = image.index_select(0, row.clamp(max=n_in - 1))  # much faster than image[row]
            mean += own.float().mul_(share[:, None, None])
    return mean


def shrink(image: Tensor, width: int, height: int, resize_alpha: ResizeAlpha) -> Tensor:
    """A smaller 8-bit image, (height, width, 3 or 4), rounded once at the end.

    Args:
        image: uint8, (h, w, 3 or 4), straight alpha.
        width, height: the new size in pixels, at most the old one.
        resize_alpha: "straight" averages the colors as they are stored: what the published NeRF
            and DietNeRF results were measured with, although the hidden colors of clear pixels
            darken the edges. "premultiplied" weights them by alpha first and returns them so.
    """
    if resize_alpha == "premultiplied":
        image = image.float()
        image[..., :3] *= image[..., 3:] / 255
    return resize_area(image, width, height).round().to(torch.uint8)
