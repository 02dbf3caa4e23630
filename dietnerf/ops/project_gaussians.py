"""Projection of Gaussians onto the image plane (EWA splatting), as an op.

Camera coordinates are x right, y down, z ahead: pixels count from the upper left corner of the
image, and the center of pixel (column i, row j) lies at (i + 0.5, j + 0.5).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dietnerf.ops._check import check_floats
from dietnerf.ops._define import define
from dietnerf.ops._shapes import check_shapes, shapes

# Standard deviations from its center at which a Gaussian of opacity 1 has an alpha of 1/255.
REACH = math.sqrt(2 * math.log(255))
# By how much of its size the image is widened on each side for the derivative of the perspective.
MARGIN = 0.15
INPUTS = shapes(means="n 3", log_scales="n 3", quaternions="n 4", c2w="3 4", focal="2", center="2")
OUTPUTS = shapes(centers="n 2", conics="n 3", depths="n", radii="n", compensation="n")


def project_gaussians(
    means: Tensor,
    log_scales: Tensor,
    quaternions: Tensor,
    c2w: Tensor,
    focal: Tensor,
    center: Tensor,
    width: int,
    height: int,
    near: float,
    blur: float = 0.3,
    antialias: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Project Gaussians to ellipses in the image of a pinhole camera.

    With J the derivative of the perspective at the mean and W the rotation into the camera, the
    covariance in the image is J W (R S S R^T) W^T J^T + blur I (EWA splatting, Zwicker et al. 2002;
    3DGS, Kerbl et al. 2023, eq. 5). J is taken no farther out than 15% of the image's size beyond
    its edge, which 3DGS calls 1.3 times the field of view.

    A Gaussian is not visible if its mean is not beyond `near`, if its ellipse does not touch the
    image, or if a number of it is not finite or its quaternion is 0: all outputs and gradients of
    it are 0.

    Differentiable once in means, log_scales, quaternions and c2w, but for the radii; deterministic.

    Args:
        means: centers in scene units, (n, 3).
        log_scales: natural logarithms of the standard deviations along the Gaussian's own axes,
            scene units, (n, 3).
        quaternions: rotations of these axes, of any length but 0, the real part first, (n, 4).
        c2w: rigid camera-to-world matrix, OpenGL axes as in `Cameras`, (3, 4).
        focal: focal lengths in pixels along x and y, (2,).
        center: principal point in pixels, (2,).
        width, height: size of the image in pixels.
        near: nearest distance along the camera axis, scene units, at least 0.
        blur: variance added along both axes of the image, in square pixels, at least 0.
        antialias: whether `compensation` takes back what `blur` adds to the light of a Gaussian
            (Mip-Splatting, Yu et al. 2024, eq. 9).

    Returns:
        centers (n, 2) in pixels; conics (n, 3), the entries xx, xy and yy of the inverse
        covariances, per square pixel; depths (n,) along the camera axis; radii (n,) in pixels, at
        which the alpha of an opacity of 1 has fallen to 1/255, 0 where it is not visible;
        compensation (n,), a factor of the opacity from 0 to 1, 1 without `antialias`.
    """
    floats = {"means": means, "log_scales": log_scales, "quaternions": quaternions}
    floats |= {"c2w": c2w, "focal": focal, "center": center}
    check_shapes("project_gaussians", INPUTS, floats)
    check_floats("project_gaussians", **floats)
    _check_ranges(width, height, near, blur)
    centers, conics, depths, radii, compensation = _op(
        *floats.values(), width, height, near, blur, antialias
    )
    return centers, conics, depths, radii.detach(), compensation


def _check_ranges(width: int, height: int, near: float, blur: float) -> None:
    if width < 1 or height < 1:
        raise ValueError(
            f"project_gaussians: width and height must be at least 1, got {width} and {height}"
        )
    for name, value in (("near", near), ("blur", blur)):
        if not 0 <= value < math.inf:
            raise ValueError(f"project_gaussians: {name} must be at least 0, got {value}")


def reference(
    means: Tensor,
    log_scales: Tensor,
    quaternions: Tensor,
    c2w: Tensor,
    focal: Tensor,
    center: Tensor,
    width: int,
    height: int,
    near: float,
    blur: float,
    antialias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    view = _View(c2w, focal, center, focal.new_tensor([width, height]), blur, antialias)
    detached = _project(means.detach(), log_scales.detach(), quaternions.detach(), view)
    is_visible = _is_visible(detached, width, height, near)
    # In place of the others one that is: what is not finite has gradients that are not, times 0.
    shown, ahead = is_visible[:, None], (c2w[:, 3] - c2w[:, 2]).detach()
    centers, covariances, determinants, depths, compensation = _project(
        torch.where(shown, means, ahead),
        torch.where(shown, log_scales, 0.0),
        torch.where(shown, quaternions, quaternions.new_tensor([1.0, 0, 0, 0])),
        view,
    )
    xx, xy, yy = covariances.unbind(-1)
    conics = torch.stack([yy, -xy, xx], dim=-1) / determinants[:, None]
    largest = (xx + yy) / 2 + torch.hypot((xx - yy) / 2, xy)  # eigenvalue
    radii = REACH * largest.detach().sqrt()
    return (
        torch.where(shown, centers, 0.0),
        torch.where(shown, conics, 0.0),
        torch.where(is_visible, depths, 0.0),
        torch.where(is_visible, radii, 0.0),
        torch.where(is_visible, compensation, 0.0),
    )


class _View(NamedTuple):
    """A camera with its image `size` (2,), and what is made of ellipses."""

    c2w: Tensor
    focal: Tensor
    center: Tensor
    size: Tensor
    blur: float
    antialias: bool


def _project(
    means: Tensor, log_scales: Tensor, quaternions: Tensor, view: _View
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Centers (n, 2), covariances (n, 3) and their determinants (n,), depths (n,), compensation
    (n,), of all Gaussians."""
    right, up, backward, position = view.c2w.unbind(-1)
    turn = torch.stack([right, -up, -backward])
    points = (means - position) @ turn.T
    depths = points[:, 2]
    places = points[:, :2] / depths[:, None]  # on the plane at depth 1
    low = (-MARGIN * view.size - view.center) / view.focal
    high = ((1 + MARGIN) * view.size - view.center) / view.focal
    slopes = torch.minimum(torch.maximum(places, low), high)
    axes = turn @ _rotations(quaternions) * log_scales.exp()[:, None, :]  # (n, 3, 3), as columns
    scale = view.focal / depths[:, None]
    along_x, along_y = (
        scale[:, i, None] * (axes[:, i] - slopes[:, i, None] * axes[:, 2]) for i in (0, 1)
    )
    xx, xy, yy = (
        (p * q).sum(dim=-1) for p, q in ((along_x, along_x), (along_x, along_y), (along_y, along_y))
    )
    # sqrt(xx * yy - xy^2) without the difference, which would leave nothing of a thin ellipse.
    area = torch.linalg.vector_norm(torch.linalg.cross(along_x, along_y), dim=-1)
    determinants = area**2 + view.blur * (xx + yy) + view.blur**2
    covariances = torch.stack([xx + view.blur, xy, yy + view.blur], dim=-1)
    compensation = torch.ones_like(area)
    if view.antialias:
        compensation = (area / determinants.sqrt()).clamp(max=1)
    return places * view.focal + view.center, covariances, determinants, depths, compensation


def _rotations(quaternions: Tensor) -> Tensor:
    """(n, 4) to (n, 3, 3)."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1, eps=0.0).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def _is_visible(projected: tuple[Tensor, ...], width: int, height: int, near: float) -> Tensor:
    centers, covariances, determinants, depths, _ = projected
    xx, _, yy = covariances.unbind(-1)
    is_visible = (depths > near) & (determinants > 0) & (xx * yy * determinants).isfinite()
    for place, variance, size in ((centers[:, 0], xx, width), (centers[:, 1], yy, height)):
        reach = REACH * variance.sqrt()
        is_visible &= (place + reach > 0) & (place - reach < size)
    return is_visible


_op = define(
    "project_gaussians",
    reference,
    inputs=INPUTS,
    outputs=OUTPUTS,
    like="means",
    differentiable=("means", "log_scales", "quaternions", "c2w"),
    saved=("radii",),
)
