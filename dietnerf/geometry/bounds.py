"""The axis-aligned box that a set of cameras sees."""

import math

import torch
from torch import Tensor

from dietnerf.errors import UserError
from dietnerf.geometry.alignment import focus
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import face_one_way

N_POINTS = 64  # of a grid, along each axis
SEEN_BY = 0.75  # of the cameras
MOST_TRIED, N_RAYS, N_DISTANCES = 16, 9, 48  # cameras, rays across each, and points on a ray
SURROUNDINGS = 2.0  # half side of the box, in distances of the cameras from their focus


def bounds_of(cameras: Cameras) -> Tensor:
    """The smallest axis-parallel box around what three quarters of the cameras see.

    A camera sees what lies in its frame, between near and far. Where no point is seen by that many,
    the largest number that there is counts. Accurate to a 64th of the box; not differentiable.

    Three quarters come near the usual +-1.5 for NeRF-synthetic: [-1.48, 1.57] x [-1.56, 1.55] x
    [-1.89, 1.36] for the 100 views of lego, up to 2.3 for the first 8 of them. The toy scene,
    within 1.2 of the origin, is never cut. Half would give 1.8 and 2.5.

    Returns:
        bounds: lowest and highest corner, (2, 3), scene units.
    """
    bounds = _around_seen(cameras)
    for _ in range(2):  # the second time on a finer grid
        bounds = _shrink(bounds, cameras)
    return bounds


def check_bounds(bounds: Tensor, cameras: Cameras, option: str) -> None:
    """Refuse an invalid box (2, 3), or one that no camera sees.

    Raises:
        UserError: it names `option`, and says what to do.
    """
    lowest, highest = bounds.tolist()
    if not (bounds.isfinite().all() and (bounds[0] < bounds[1]).all()):
        raise UserError(
            f"{option}: the lowest corner must lie below the highest along every axis, got "
            f"{lowest} and {highest}"
        )
    if not (_count_views(_grid(bounds), cameras) > 0).any():
        raise UserError(
            f"{option}: no training camera sees any of the box from {lowest} to {highest}; leave "
            "it out to have it computed from the cameras"
        )


def surroundings_of(cameras: Cameras) -> Tensor:
    """The box of an unbounded scene in which a field has full detail.

    Where the cameras look in different directions, as around an object or in a room, near and far
    do not determine it: it is a cube around their focus, with the cameras well inside. Where all
    face the same way it is `bounds_of`. Not differentiable.

    Returns:
        bounds: lowest and highest corner, (2, 3), scene units.
    """
    return _cube(cameras, SURROUNDINGS)


def subject_of(cameras: Cameras) -> Tensor:
    """The box of the photographed object, without its surroundings: a cube around the focus of the
    cameras that reaches to them, or `bounds_of` where all face the same way.

    Returns:
        bounds: lowest and highest corner, (2, 3), scene units.
    """
    return _cube(cameras, 1.0)


def _cube(cameras: Cameras, reach: float) -> Tensor:
    """A cube around the focus with a half side of `reach` times the distance of the cameras."""
    if len(cameras) == 1 or face_one_way(cameras):
        return bounds_of(cameras)
    middle = focus(cameras.c2w.double()).to(cameras.c2w)
    half = reach * (cameras.positions - middle).norm(dim=1).median()
    return torch.stack([middle - half, middle + half])


def box_of(
    given: list[float] | None, cameras: Cameras, option: str, is_unbounded: bool = False
) -> Tensor:
    """The box (2, 3) of six numbers, or without them the one that the cameras see, or stand in.

    Raises:
        UserError: no camera sees it.
    """
    if given is None:
        return surroundings_of(cameras) if is_unbounded else bounds_of(cameras)
    found = torch.tensor(given).reshape(2, 3)
    check_bounds(found, cameras, option)
    return found


def count_views(bounds: Tensor, cameras: Cameras, n_cells: int) -> Tensor:
    """How many cameras see the middle of each cell of a box (2, 3), between near and far.

    Returns:
        int64, (n_cells, n_cells, n_cells) along x, y, z.
    """
    return _count_views(_grid(bounds, n_cells), cameras)


def seen_by_enough(counts: Tensor, share: float, n_cameras: int) -> Tensor:
    """Which points at least a fraction of the cameras see, or if there are none, the largest number
    of cameras.

    Args:
        counts: how many cameras see each point, int64, of any shape.
    """
    return counts >= min(math.ceil(share * n_cameras), int(counts.max()))


def shared_share(cameras: Cameras) -> float:
    """Fraction of pixels whose ray passes, between near and far, a point that another camera sees.

    A few percent at most mean that near and far, or the poses, are wrong. Accurate to some percent.
    """
    points = _points_on_rays(cameras)[0]
    counts = _count_views_of_points(points.flatten(0, 1), cameras).view(points.shape[:2])
    return float((counts > 1).any(dim=1).float().mean())


def _points_on_rays(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Points along rays of some of the cameras, (n_rays, `N_DISTANCES`, 3), and how far the next
    ones are at most, scene units, (n_rays, `N_DISTANCES`).

    Distances grow by a factor, so that a very large far does not reduce the resolution close to the
    cameras, as it would on an even grid.
    """
    device, n = cameras.c2w.device, min(len(cameras), MOST_TRIED)
    tried = torch.linspace(0, len(cameras) - 1, n, device=device).round()
    edges = torch.linspace(0, 1, N_RAYS, device=device)
    ids, x, y = torch.cartesian_prod(tried, edges, edges).unbind(-1)
    rays = cameras.rays(ids.long(), x * cameras.width - 0.5, y * cameras.height - 0.5)
    shares = torch.linspace(0, 1, N_DISTANCES, device=device)
    t = torch.lerp(rays.near.log()[:, None], rays.far.log()[:, None], shares).exp()
    points = rays.rays_o[:, None] + t[..., None] * rays.rays_d[:, None]
    ahead = (rays.far / rays.near) ** (1 / (N_DISTANCES - 1)) - 1
    aside = cameras.width / cameras.focal[ids.long(), 0] / (N_RAYS - 1)
    return points, t * (torch.maximum(ahead, aside) * rays.norms)[:, None]


def _around_seen(cameras: Cameras) -> Tensor:
    """A first box around what enough of the cameras see, with a margin."""
    points, room = (values.flatten(0, 1) for values in _points_on_rays(cameras))
    counts = _count_views_of_points(points, cameras)
    is_seen = seen_by_enough(counts, SEEN_BY, len(cameras))
    seen, room = points[is_seen], room[is_seen, None]
    low = torch.maximum((seen - room).amin(dim=0), points.amin(dim=0))
    high = torch.minimum((seen + room).amax(dim=0), points.amax(dim=0))
    return torch.stack([low, high])


def _shrink(bounds: Tensor, cameras: Cameras) -> Tensor:
    """The part of the box that enough of the cameras see, or else as many as see any of it."""
    axes = _grid(bounds)
    counts = _count_views(axes, cameras)
    is_seen = seen_by_enough(counts, SEEN_BY, len(cameras))
    sides = []
    for axis, coordinates in enumerate(axes):
        others = [other for other in range(3) if other != axis]
        seen = coordinates[is_seen.any(dim=others[1]).any(dim=others[0])]
        half_step = (coordinates[1] - coordinates[0]) / 2
        sides.append(torch.stack([seen[0] - half_step, seen[-1] + half_step]))
    return torch.stack(sides, dim=1)


def _grid(bounds: Tensor, n_cells: int = N_POINTS) -> list[Tensor]:
    """Coordinates along each axis of the centers of a grid's cells, (n_cells,) each."""
    shares = (torch.arange(n_cells, device=bounds.device) + 0.5) / n_cells
    return [low + shares * (high - low) for low, high in bounds.unbind(dim=1)]


def _count_views(axes: list[Tensor], cameras: Cameras) -> Tensor:
    """How many cameras see each point of a grid, int64, along x, y, z."""
    counts = torch.zeros(*map(len, axes), dtype=torch.int64, device=axes[0].device)
    for i in range(len(cameras)):
        c2w = cameras.c2w[i]
        counts += _is_seen(cameras, i, *(_along(axes, c2w[:, 3], c2w[:, k]) for k in range(3)))
    return counts


def _count_views_of_points(points: Tensor, cameras: Cameras) -> Tensor:
    """How many cameras see each of the points (n, 3), int64."""
    counts = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for i, c2w in enumerate(cameras.c2w):
        counts += _is_seen(cameras, i, *((points - c2w[:, 3]) @ c2w[:, :3]).unbind(-1))
    return counts


def _is_seen(cameras: Cameras, index: int, right: Tensor, up: Tensor, backward: Tensor) -> Tensor:
    """Whether one of the cameras sees places along its own axes, of any shape."""
    focal, center, depth = cameras.focal[index], cameras.center[index], -backward
    is_seen = (depth >= cameras.near[index]) & (depth <= cameras.far[index])
    if cameras.lenses is not None:
        right, up = right.clone(), up.clone()
        ahead = is_seen.nonzero(as_tuple=True)  # the lens is most of the work
        places = torch.stack([right[ahead], -up[ahead]], dim=-1) / depth[ahead][:, None]
        places, is_shown = cameras.lenses[torch.tensor(index)].distort(places)
        right[ahead], up[ahead] = (depth[ahead] * place for place in (places[:, 0], -places[:, 1]))
        is_seen[ahead] = is_shown
    columns, rows = right * focal[0] + center[0] * depth, center[1] * depth - up * focal[1]
    for place, size in ((columns, cameras.width), (rows, cameras.height)):
        is_seen &= (place >= 0) & (place <= size * depth)
    return is_seen


def _along(axes: list[Tensor], origin: Tensor, direction: Tensor) -> Tensor:
    """How far each point of a grid lies from `origin` (3,) along `direction` (3,)."""
    x, y, z = (d * (a - o) for d, a, o in zip(direction, axes, origin, strict=True))
    return x[:, None, None] + y[:, None] + z
