"""Cameras as the listings of instant-ngp, nerfstudio and Blender's exporters describe them."""

import math
from pathlib import Path
from typing import Any

from dietnerf.data.files import number
from dietnerf.data.frames import Intrinsics
from dietnerf.data.images import image_size
from dietnerf.errors import UserError
from dietnerf.geometry.lenses import COEFFICIENTS

PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
FISHEYES = ("FISHEYE", "OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
UNKNOWN_LENSES = (
    "is_equirectangular",
    "equirectangular",
    "latlong",
    "ftheta_p0",
    "rolling_shutter",
)


def read_intrinsics(values: dict[str, Any], path: Path, where: str) -> Intrinsics:
    """The camera of a photograph.

    Args:
        values: keys of the listing and of the frame.
        path: the photograph, whose size counts where `w` or `h` is missing.
        where: what messages name.

    Raises:
        UserError: a key is missing, or no camera is like that.
    """

    def optional(key: str, default: float) -> float:
        return default if values.get(key) is None else number(values, key, where)

    for key in UNKNOWN_LENSES:
        given = values.get(key)
        if any(given) if isinstance(given, list) else given:
            raise UserError(f"{where}: {key} is not supported: export pinhole or OpenCV cameras")
    model = values.get("camera_model", "OPENCV")
    if model not in (*PINHOLES, *FISHEYES):
        known = ", ".join((*PINHOLES, *FISHEYES))
        raise UserError(
            f"{where}: camera_model {model!r:.40} is none of {known}: undistort the photos to "
            "pinhole ones first, or cut panoramas into perspective views"
        )
    stored = (0, 0)
    if values.get("w") is None or values.get("h") is None:
        stored = image_size(path)
    width, height = optional("w", stored[0]), optional("h", stored[1])
    if values.get("fl_x") is None and values.get("camera_angle_x") is None:
        raise UserError(f"{where}: the key fl_x is missing, or camera_angle_x: add one of them")
    focal_x = optional("fl_x", 0) or _focal(values, "camera_angle_x", width, where)
    focal_y = optional("fl_y", 0)
    if values.get("fl_y") is None:
        has_angle = values.get("fl_x") is None and values.get("camera_angle_y") is not None
        focal_y = _focal(values, "camera_angle_y", height, where) if has_angle else focal_x
    result = Intrinsics(
        width=round(width),
        height=round(height),
        focal=(focal_x, focal_y),
        center=(optional("cx", width / 2), optional("cy", height / 2)),
        distortion=tuple(optional(name, 0.0) for name in COEFFICIENTS),
        is_fisheye=bool(values.get("is_fisheye")) or model in FISHEYES,
    )
    result.check(where)
    return result


def _focal(values: dict[str, Any], key: str, side: float, where: str) -> float:
    if values.get(key) is None:
        return 0.0
    angle = number(values, key, where)
    if not 0 < angle < math.pi:
        raise UserError(f"{where}: {key} must be an angle in (0, pi), got {angle}")
    return 0.5 * side / math.tan(0.5 * angle)
