"""360-degree pictures, cut into perspective views that share a center of projection.

A panorama is equirectangular, twice as wide as high. Its frame is that of an OpenGL camera in the
middle of the picture: x right, y up, the middle column looks along -z.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from dietnerf.data.image_files import open_image
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.prepare.quality import Choice

LYING = (5, 6, 7, 8)  # EXIF orientations of pictures that are stored on their side
N_LEVEL = 6  # views along the horizon; one more looks up, none down, where a tripod or a hand is
ANGLE = math.radians(95)  # of view: 90 would leave gaps between the level views and the one up
XMP_KEYS = ("xmp", "XML:com.adobe.xmp")  # of JPEG, WebP and TIFF; of PNG
EQUIRECTANGULAR = re.compile(rb"ProjectionType\s*(?:>|=\s*[\"'])\s*equirectangular")
EXTENT = re.compile(  # of the whole, and of the part of it that the file has
    rb"(FullPano|CroppedAreaImage)(Width|Height)Pixels\s*(?:>|=\s*[\"'])\s*(\d{1,9})\b"
)
MARGIN = 2  # columns that are repeated at both ends, for the interpolation


def is_panorama(path: Path, choice: Choice) -> bool:
    """Whether a photograph is to be cut: if it is tagged (GPano), or if that is asked for.

    Raises:
        UserError: it is to be, but is, upright, not twice as wide as high, or a part of a whole.
    """
    if choice == "no":
        return False
    with open_image(path, is_decoded=False) as file:
        (width, height), info = file.size, file.info
        turn = file.getexif().get(ExifTags.Base.Orientation, 1)
    xmp = b"".join(_bytes(info.get(key, b"")) for key in XMP_KEYS)
    if not EQUIRECTANGULAR.search(xmp) and choice == "auto":
        return False
    what = f"{width}x{height}"
    if turn in LYING:
        width, height = height, width
        what = f"{width}x{height} once it is turned as its EXIF orientation says"
    remedy = "export all of it, leave it out, or take it as a photo with --panorama no"
    if width != 2 * height:
        raise UserError(
            f"{path} is {what}, and a 360-degree picture is twice as wide as high: {remedy}"
        )
    if part := _part(xmp):
        raise UserError(f"{path} is a part, {part}, of a 360-degree picture: {remedy}")
    return True


def _part(xmp: bytes) -> str:
    """How much of a panorama a file has by its tags, where that is not all of it."""
    extents: dict[bytes, dict[bytes, int]] = {b"FullPano": {}, b"CroppedAreaImage": {}}
    for area, side, pixels in EXTENT.findall(xmp):
        extents[area][side] = int(pixels)
    whole, part = extents.values()
    if all(part.get(side, whole[side]) >= whole[side] for side in whole):
        return ""
    sides = (b"Width", b"Height")
    here, there = ("x".join(str(one.get(side, "?")) for side in sides) for one in (part, whole))
    return f"{here} of {there} pixels"


def _bytes(xmp: object) -> bytes:
    return xmp if isinstance(xmp, bytes) else str(xmp).encode(errors="replace")


def rotations() -> Tensor:
    """From each view to the panorama, OpenGL axes, (n_views, 3, 3); the first is the identity."""
    turns = [(2 * math.pi * k / N_LEVEL, 0.0) for k in range(N_LEVEL)]
    return torch.stack([_rotation(yaw, pitch) for yaw, pitch in [*turns, (0.0, math.pi / 2)]])


def _rotation(yaw: float, pitch: float) -> Tensor:
    """Turned to the right by `yaw` and upward by `pitch`, radians, (3, 3)."""
    (s, c), (t, d) = ((math.sin(angle), math.cos(angle)) for angle in (yaw, pitch))
    around_y = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]], dtype=torch.float64)
    around_x = torch.tensor([[1, 0, 0], [0, d, -t], [0, t, d]], dtype=torch.float64)
    return around_y @ around_x


def view_cameras(width: int) -> Cameras:
    """The views of a panorama of this width at the origin of its frame, as sharp as it is in their
    middle."""
    side = max(1, round(width / math.pi * math.tan(ANGLE / 2)))
    turns = rotations().float()
    n = len(turns)
    return Cameras(
        c2w=torch.cat([turns, torch.zeros(n, 3, 1)], dim=2),
        focal=torch.full((n, 2), side / 2 / math.tan(ANGLE / 2)),
        center=torch.full((n, 2), side / 2),
        near=torch.zeros(n),
        far=torch.ones(n),
        width=side,
        height=side,
    )


def places(viewdirs: Tensor, width: int) -> Tensor:
    """Where directions (n, 3) in a panorama's frame lie in it, with its margins: (n, 2), from -1 to
    1 along the width and the height."""
    x, y, z = viewdirs.double().unbind(-1)
    column = (torch.atan2(x, -z) / (2 * math.pi) + 0.5) * width + MARGIN
    return torch.stack(
        [2 * column / (width + 2 * MARGIN) - 1, -2 / math.pi * torch.asin(y.clamp(-1, 1))], dim=-1
    ).float()


def cut(picture: Image.Image) -> Iterator[Image.Image]:
    """The views of a panorama, one after the other, by bicubic interpolation."""
    cameras = view_cameras(picture.width)
    pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0)[None].float()
    pixels = pad(pixels, (MARGIN, MARGIN, 0, 0), mode="circular")
    for i in range(len(cameras)):
        grid = places(cameras.image_rays(i).viewdirs, picture.width)
        grid = grid.reshape(1, cameras.height, cameras.width, 2)
        view = grid_sample(pixels, grid, "bicubic", "border", align_corners=False)[0].movedim(0, -1)
        yield Image.fromarray(view.round().clamp(0, 255).to(torch.uint8).numpy())


def rig_of(views: Sequence[int]) -> list[np.ndarray]:
    """From the frame of the first view to that of each, COLMAP's axes, (3, 3)."""
    flip = np.array([1.0, -1.0, -1.0])  # y down, z forward
    turns = rotations().numpy()
    return [flip[:, None] * (turns[i].T @ turns[views[0]]) * flip for i in views]
