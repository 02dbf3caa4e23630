"""A file of splats as a scene. Where it names no cameras, some are placed around it."""

import math
import sys
import warnings
from multiprocessing import parent_process
from pathlib import Path

import torch
from torch import Tensor

from dietnerf.data.camera_set import CameraSet
from dietnerf.data.ply import read_comments
from dietnerf.errors import UserError, printable
from dietnerf.gaussians import Gaussians
from dietnerf.gaussians.ply import read_splats
from dietnerf.gaussians.ply_cameras import cameras_in
from dietnerf.gaussians.splat import read_splat
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at
from dietnerf.scene_model import SceneModel

READERS = {".ply": read_splats, ".splat": read_splat}  # by the ending of files
N_CAMERAS, WIDTH, HEIGHT, FOCAL = 24, 800, 600, 800.0  # around the scene; pixels
ELEVATION = math.radians(20)
OPAQUE = 0.1  # splats that are less are fog
SUBJECT = 0.5  # share of them, nearest to the middle, that is what one looks at
DISTANCE = 3.0  # of the cameras, in radii of the subject
NEAR, FAR = 0.01, 100.0  # in the same


def is_splats(path: Path) -> bool:
    """Whether a file is one of splats, by its ending."""
    return path.suffix.lower() in READERS


def scene_of_splats(path: Path) -> SceneModel:
    """The splats of a file, ready to render, from the cameras that its comments name, as ours do;
    or on black, from some on a circle around them.

    Which way is up is then guessed: along y or z, whichever the finest of them reach less far; z,
    or the end of y at which others are farther away, as walls and sky are.

    Raises:
        UserError: it is no file of splats.
    """
    gaussians = READERS[path.suffix.lower()](path)
    cameras, background = _named_cameras(path) or (None, torch.zeros(3))
    if cameras is None:
        cameras, up = _cameras_around(gaussians)
        if parent_process() is None:  # of many that render, the first says it
            print(
                f"{printable(path)} names no cameras: they circle the middle of its {gaussians.n} "
                f"splats, with {up} up",
                file=sys.stderr,
            )
    gaussians.prepare(cameras)
    scene = SceneModel(gaussians)
    scene.camera_set = CameraSet(
        {"train": cameras}, {"train": list(range(len(cameras)))}, background
    )
    return scene.eval()


def _named_cameras(path: Path) -> tuple[Cameras, Tensor] | None:
    """Those in the comments of a PLY file, and the background."""
    if path.suffix.lower() != ".ply":
        return None
    try:
        return cameras_in(read_comments(path))
    except UserError as error:
        warnings.warn(f"the cameras in {path} are not used: {error}", stacklevel=2)
        return None


def _cameras_around(gaussians: Gaussians) -> tuple[Cameras, str]:
    """On a circle, and the name of the axis that is up."""
    means, sizes = gaussians.means.detach(), gaussians.log_scales.detach().amax(dim=1).exp()
    is_opaque = gaussians.opacity_logits.detach().sigmoid() > OPAQUE
    if is_opaque.any():
        means, sizes = means[is_opaque], sizes[is_opaque]
    # What was photographed from nearby has the finest splats.
    fine = means[sizes <= sizes.median()]
    center = fine.median(dim=0).values
    distance = (fine - center).norm(dim=1).quantile(SUBJECT)
    radius = max(float(distance + 3 * sizes.median()), 1e-12)  # a splat is seen as far as that
    x, y, z = torch.eye(3)
    reach = (fine - center).abs().median(dim=0).values
    up, name = z, "z"
    if reach[2] > reach[1]:
        low, middle, high = means[:, 1].quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
        up, name = (y, "y") if high - middle > middle - low else (-y, "-y")
    turns = torch.arange(N_CAMERAS) / N_CAMERAS * 2 * math.pi
    level = turns.cos()[:, None] * x + turns.sin()[:, None] * torch.linalg.cross(up, x)
    directions = math.cos(ELEVATION) * level + math.sin(ELEVATION) * up
    c2w = look_at(center + DISTANCE * radius * directions, center, up)
    focal = torch.full((N_CAMERAS, 2), FOCAL)
    middle = torch.tensor([WIDTH / 2, HEIGHT / 2]).expand(N_CAMERAS, 2)
    near, far = (share * radius * torch.ones(N_CAMERAS) for share in (NEAR, FAR))
    return Cameras(c2w, focal, middle, near, far, WIDTH, HEIGHT), name
