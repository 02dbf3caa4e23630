"""Image files in, 8-bit tensors out; and the one way in which images are made smaller."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dietnerf.data.arrays import read_array
from dietnerf.errors import UserError

ResizeAlpha = Literal["straight", "premultiplied"]
READ_ERRORS = (  # what Pillow raises for broken files
    OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
MOST_NUMBERS = 200_000_000  # in an array: somewhat more than Pillow reads of pixels
HEIC_SUFFIXES = (".heic", ".heif")
EXIF_ORIENTATION = 0x0112


def read_image(path: Path, is_turned: bool = False) -> Tensor:
    """One image file as sRGB with straight alpha, or without alpha: (height, width, 4 or 3), uint8.

    Grey and palette images become colour; 16-bit ones are rounded to 8 bit.

    Args:
        path: the file.
        is_turned: turn it upright as its EXIF orientation says, instead of taking the pixels as
            they are stored.

    Raises:
        UserError: the file is no image, is cut short, is animated, or holds no 8- or 16-bit
            integers.
    """
    check_codec(path)
    try:
        with iio.imopen(path, "r", plugin="pillow") as file:  # decoded once: that takes long
            mode = _decoded_mode(file.metadata())
            pixels = file.read(mode=mode, rotate=is_turned)  # type: ignore[call-arg]
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error
    return torch.from_numpy(_to_colour(_to_8_bit(pixels, path), path))


@dataclass(frozen=True)
class Header:
    """Width and height of an image as it is stored, and the channels it is read with, 3 or 4."""

    width: int
    height: int
    n_channels: int


def read_header(path: Path) -> Header:
    """What an image file says of itself, without its pixels."""
    check_codec(path)
    try:
        with Image.open(path) as file:
            return Header(*file.size, 4 if file.has_transparency_data else 3)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as it is stored, from its header."""
    header = read_header(path)
    return header.width, header.height


def is_stored_sideways(path: Path) -> bool:
    """Whether EXIF says that an image is to be turned by a quarter to stand upright."""
    try:
        with Image.open(path) as file:
            return file.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except READ_ERRORS as error:
        raise _unreadable(path, error) from error


def read_numbers(path: Path) -> Tensor:
    """One channel as it is stored, 8 or 16 bit or float, or a NumPy array: (height, width), float.

    Raises:
        UserError: the file is broken, or holds something else.
    """
    if path.suffix.lower() == ".npy":
        values = read_array(path, MOST_NUMBERS)
    else:
        try:
            values = iio.imread(path, plugin="pillow")
        except READ_ERRORS as error:
            raise _unreadable(path, error) from error
    if values.ndim == 3:
        values = values[:, :, 0]
    if (
        values.ndim != 2
        or not values.size
        or not (np.issubdtype(values.dtype, np.number) or values.dtype == bool)
    ):
        raise UserError(f"{path} has shape {values.shape}: export it with one number a pixel")
    return torch.from_numpy(values.astype(np.float32))


def check_codec(path: Path) -> None:
    """Let Pillow read HEIC through pillow-heif.

    Raises:
        UserError: that is missing, and `path` ends in .heic.
    """
    if path.suffix.lower() not in HEIC_SUFFIXES:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UserError(
            f"{path} is a HEIC photo, which needs the package pillow-heif: install it with "
            "`pip install pillow-heif`, or export the photos as JPEG"
        ) from error
    register_heif_opener()


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return UserError(f"{path} has more than {most} million pixels: make it smaller")
    return UserError(
        f"{path} cannot be read as an image, it may be truncated or of another type: "
        "copy or export it again"
    )


def _decoded_mode(metadata: dict[str, Any]) -> str | None:
    """What Pillow shall convert the file to; None leaves it as it is."""
    if "transparency" in metadata:  # one palette entry or colour that stands for "clear"
        return "RGBA"
    return "RGB" if metadata.get("mode") == "CMYK" else None


def _to_8_bit(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint16:
        return np.rint(pixels / 257.0).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise UserError(f"{path} holds {pixels.dtype} pixels: export it with 8 bits a channel")
    return pixels


def _to_colour(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4):
        raise UserError(f"{path} has shape {pixels.shape}: export it as one RGB or RGBA image")
    grey = {1: [0, 0, 0], 2: [0, 0, 0, 1]}.get(pixels.shape[-1])
    return np.ascontiguousarray(pixels if grey is None else pixels[:, :, grey])


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
        resize_alpha: "straight" averages the colours as they are stored: what the published NeRF
            and DietNeRF results were measured with, although the hidden colours of clear pixels
            darken the edges. "premultiplied" weights them by alpha first and returns them so.
    """
    if resize_alpha == "premultiplied":
        image = image.float()
        image[..., :3] *= image[..., 3:] / 255
    return resize_area(image, width, height).round().to(torch.uint8)
