"""Renderings as 8-bit images."""

from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from dietnerf.geometry.rays import Rendering

Mode = Literal["rgb", "depth", "opacity"]
CAPTION_ROWS = 16
PIXELS_AT_ONCE = 1 << 18  # which colors in floats take some 20 MB for

# Near is bright, far is dark: nine steps of a color map whose lightness is monotonic.
_DEPTH_COLORS = torch.tensor(
    [
        [252, 253, 191],
        [254, 202, 141],
        [253, 150, 104],
        [241, 96, 93],
        [205, 64, 113],
        [158, 47, 127],
        [114, 31, 129],
        [64, 15, 116],
        [17, 12, 49],
    ]
)


def to_uint8(colors: Tensor) -> Tensor:
    """Colors in [0, 1], clamped and rounded to 8 bit."""
    return (colors.clamp(0, 1) * 255).round().to(torch.uint8)


def surface_depth(rendering: Rendering) -> Tensor:
    """Depth of what is there, (n_rays,), whatever its opacity: the mean of t under the weights."""
    tiny = torch.finfo(rendering.opacity.dtype).tiny
    return rendering.depth / rendering.opacity.clamp_min(tiny)


def depth_range(rendering: Rendering) -> tuple[float, float]:
    """The middle 96% of the depths of opaque pixels, or (0, 1) if nothing is opaque."""
    depths = surface_depth(rendering)[rendering.opacity > 0.5]
    if len(depths) == 0:
        return 0.0, 1.0
    low, high = depths.quantile(torch.tensor([0.02, 0.98], device=depths.device)).tolist()
    return low, max(high, low + 1e-6)


def color_depth(rendering: Rendering, low: float, high: float) -> Tensor:
    """Depths from `low` (bright) to `high` (dark) as colors over white, (n_rays, 3) in [0, 1]."""
    colors = _DEPTH_COLORS.to(rendering.depth) / 255
    place = ((surface_depth(rendering) - low) / (high - low)).nan_to_num().clamp(0, 1)
    place = place * (len(colors) - 1)
    left = place.floor().long().clamp(max=len(colors) - 2)
    mixed = torch.lerp(colors[left], colors[left + 1], (place - left)[:, None])
    opacity = rendering.opacity[:, None]
    return mixed * opacity + (1 - opacity)


def to_image(rendering: Rendering, mode: Mode, height: int, depths: tuple[float, float]) -> Tensor:
    """One image of a rendering, (height, width, 3), 8 bit.

    Args:
        rendering: of a whole image, row by row.
        mode: which quantity.
        height: rows of the image.
        depths: the depths drawn brightest and darkest.
    """
    parts = [to_uint8(_colors(part, mode, depths)) for part in rendering.split(PIXELS_AT_ONCE)]
    return torch.cat(parts).unflatten(0, (height, -1))


def _colors(rendering: Rendering, mode: Mode, depths: tuple[float, float]) -> Tensor:
    """The colors drawn for each ray, (n_rays, 3) in [0, 1]."""
    if mode == "rgb":
        return rendering.rgb
    if mode == "depth":
        return color_depth(rendering, *depths)
    return rendering.opacity[:, None].expand(-1, 3)


def captioned(pixels: Tensor, text: str) -> Tensor:
    """8-bit pixels (height, width, 3) with a line of black text on white below."""
    strip = Image.new("RGB", (pixels.shape[1], CAPTION_ROWS), "white")
    ImageDraw.Draw(strip).text((2, 1), text, fill="black", font_size=CAPTION_ROWS - 5)
    return torch.cat([pixels, torch.from_numpy(np.array(strip))])
