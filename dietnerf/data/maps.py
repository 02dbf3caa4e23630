"""Masks and depth maps beside photographs, brought to the size of these."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.frames import Frame
from dietnerf.data.images import map_size, read_numbers, resize_area
from dietnerf.errors import UserError

WHOLE = 0.999  # share of a new pixel that must count for it to count
MOST_TIMES = 8  # that a mask or depth map is larger than its photo along a side


def checked_size(path: Path, photo: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a mask or depth map, from its header.

    Args:
        path: of its file.
        photo: width and height of the photograph.

    Raises:
        UserError: they do not suit those of the photograph.
    """
    width, height = map_size(path)
    is_alike = abs(width * photo[1] - height * photo[0]) <= max(width + height, sum(photo))
    if not is_alike or width > MOST_TIMES * photo[0]:
        raise UserError(
            f"{path} is {width}x{height}, which does not fit its photo of {photo[0]}x{photo[1]}: "
            "export it at the photo's size"
        )
    return width, height


def read_mask(frame: Frame, width: int, height: int) -> Tensor | None:
    """Which pixels of a photograph of that size count, (height, width), or None where all do."""
    if frame.mask is None:
        return None
    counts = torch.from_numpy(read_numbers(frame.mask) > 0) ^ frame.is_mask_inverted
    if counts.shape[0] >= height and counts.shape[1] >= width:
        return resize_area(counts[..., None], width, height)[..., 0] > WHOLE
    return _nearest(counts.float(), width, height) > 0


def read_depth(frame: Frame, width: int, height: int) -> Tensor | None:
    """Distances along the axis, (height, width), 0 where unknown, or None where all are."""
    if frame.depth is not None:
        values = read_numbers(frame.depth)
        is_whole = np.issubdtype(values.dtype, np.integer)
        depth = _nearest(torch.from_numpy(values.astype(np.float32)), width, height)
        unit = frame.depth_unit if is_whole else frame.float_depth_unit
        return depth.nan_to_num(0, 0, 0).clamp(min=0) * unit
    if frame.points is None:
        return None
    full = frame.intrinsics
    columns = (frame.points[:, 0] * width / full.width).floor().long()
    rows = (frame.points[:, 1] * height / full.height).floor().long()
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    depth = torch.zeros(height, width)
    depth[rows[inside], columns[inside]] = frame.points[inside, 2].float()
    return depth


def _nearest(values: Tensor, width: int, height: int) -> Tensor:
    return F.interpolate(values[None, None], size=(height, width), mode="nearest-exact")[0, 0]
