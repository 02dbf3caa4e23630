"""Between cameras here (OpenGL axes, camera to world) and those of a browser (viser: OpenCV axes,
a quaternion with the real part first, a vertical field of view)."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings, fly
from dietnerf.geometry.rays import Rendering
from dietnerf.visualize import surface_depth

FLIP = np.diag([1.0, -1.0, -1.0])  # y and z point the other way
FARTHEST = 160.0  # depth that viser can say
LONGEST_SIDE = 4096  # of a picture; a larger window stretches it


def quaternion(c2w: Tensor) -> np.ndarray:
    """The turn of a pose (3, 4), real part first, (4,)."""
    turn = Rotation.from_matrix(c2w[:, :3].double().numpy() @ FLIP)
    return np.asarray(turn.as_quat(scalar_first=True))


def pose(wxyz: np.ndarray, position: np.ndarray) -> Tensor:
    """A pose (3, 4) as it is meant here."""
    turn = Rotation.from_quat(wxyz, scalar_first=True).as_matrix() @ FLIP
    return torch.from_numpy(np.column_stack([turn, position])).float()


def field_of_view(cameras: Cameras) -> float:
    """Of the first camera, from the upper to the lower edge, radians."""
    return 2 * math.atan(cameras.height / 2 / float(cameras.focal[0, 1]))


def pyramid_depth(cameras: Cameras, scale: float) -> float:
    """How far from its camera viser draws a photograph: pyramids of one `scale` have one volume."""
    half = math.tan(field_of_view(cameras) / 2)
    return scale / math.cbrt(half**2 * cameras.width / cameras.height / 3)


def browser_camera(camera: Any, train: Cameras, around: Surroundings) -> Cameras:
    """What a browser looks through: a pinhole as large as its window, up to `LONGEST_SIDE`.

    Args:
        camera: viser's handle.
        train: the training cameras; near and far follow from the first one's.
        around: how they stand.
    """
    longest = max(camera.image_width, camera.image_height, 1)
    scale = min(1.0, LONGEST_SIDE / longest)
    width, height = (max(1, round(scale * n)) for n in (camera.image_width, camera.image_height))
    moved = fly(train, pose(camera.wxyz, camera.position)[None], around)
    focal = height / 2 / math.tan(camera.fov / 2)
    return replace(
        moved,
        focal=torch.full((1, 2), focal),
        center=torch.tensor([[width / 2, height / 2]]),
        width=width,
        height=height,
        distortion=None,
        is_fisheye=None,
    )


def occluding_depth(rendering: Rendering, height: int) -> np.ndarray | None:
    """Depth along the axis that hides what is drawn behind, (height, width); None where it is more
    than viser can say."""
    depth = surface_depth(rendering)
    solid = rendering.opacity > 0.5
    if bool((depth[solid] > FARTHEST).any()):
        return None
    return depth.where(solid, FARTHEST).unflatten(0, (height, -1)).float().cpu().numpy()
