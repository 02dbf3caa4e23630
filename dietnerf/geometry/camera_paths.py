"""Camera paths that follow a capture: near the training cameras, never behind what they show.

Each is a mean of training cameras, weighted by what they are near to: in azimuth, in one direction,
or in the order of the capture. So it is as far away and as high as they are, and a path of means
cannot leave their hull.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.coverage import kind_of
from dietnerf.geometry.poses import Surroundings, fly, look_at, nearest_neighbor_order
from dietnerf.geometry.unseen import OBLIQUE, unseen_share

MOST_UNSEEN = 0.05  # share of a film's pixels that no training camera sees
WIDEST = 2 * OBLIQUE  # gap between cameras around a scene whose middle both still show
GAPS = (WIDEST, math.radians(90), math.radians(60), math.radians(30))  # that a path may cross
NEAR_BY = math.radians(30)  # standard deviation of azimuths that count as near
LEAST_ARC = math.radians(10)  # below which a swing would hardly move
TILTS = (2.0, 1.5, 1.0, 0.5)  # standard deviations of the cameras that a loop among them reaches
FAR_APART = 0.5  # mean distance from the middle, in depths, of cameras before more than one stage
JUMP = math.radians(60)  # between cameras that no walk goes on from
ROOM = 0.2  # depths that count as much as a radian of turning, where cameras stand closer together
STILL = 1e-3  # radians, or depths, too small to be noticed
SWAY = math.radians(3)  # to each side of a camera that stands alone
UPRIGHT = 0.1  # weight of up in the image, which decides where a camera looks straight down


def default_flight(
    cameras: Cameras, n_frames: int, measure: Callable[[Cameras], float] | None = None
) -> tuple[str, Cameras]:
    """The path that suits a capture, and its name.

    An orbit where cameras stand all around; else a swing through the widest sector that they cover,
    a loop among cameras that face one way, or a walk along those that look out. A path of which
    more than 5% was seen by no camera is replaced by the next, which stays closer to them.

    Args:
        cameras: the training cameras.
        n_frames: of the film.
        measure: returns the share of a film's pixels that no training camera saw; by default
            estimated from the cameras alone.
    """
    around = Surroundings.of(cameras)
    tried: list[tuple[float, str, Cameras]] = []
    for name, frames in _candidates(cameras, around, n_frames):
        share = unseen_share(frames, cameras, middle_depths(frames, cameras, around))
        if share < MOST_UNSEEN and measure is not None:
            share = measure(frames)
        if share < MOST_UNSEEN:
            return name, frames
        tried.append((share, name, frames))
    _, name, frames = min(tried, key=lambda one: one[0])  # the first of equal ones
    return name, frames


def _candidates(
    cameras: Cameras, around: Surroundings, n_frames: int
) -> Iterator[tuple[str, Cameras]]:
    """Paths by name, the one that shows most first."""
    kind = kind_of(cameras, around)
    depth = float(middle_depths(cameras, cameras, around).median())
    spread = float((cameras.positions - cameras.positions.mean(dim=0)).norm(dim=-1).mean())
    if kind == "object":
        arcs = {covered_arc(cameras, around, gap): gap for gap in GAPS}  # without duplicates
        for (_, extent), gap in arcs.items():
            if extent == 2 * math.pi:
                yield "orbit", orbit(cameras, n_frames)
            elif extent > LEAST_ARC:
                yield "swing", swing(cameras, n_frames, gap)
    elif kind == "forward" and STILL * depth < spread < FAR_APART * depth:
        for tilt in TILTS:
            yield "spiral", loop(cameras, n_frames, tilt)
    if _longest_run(cameras)[1][-1] > STILL:
        yield "walk", walk(cameras, n_frames)
    yield "sway", sway(cameras, n_frames)


def middle_depths(frames: Cameras, cameras: Cameras, around: Surroundings) -> Tensor:
    """Depth of what each frame shows, (n_frames,): of the middle of an object, or else of the mean
    disparity between near and far, as LLFF has it."""
    if kind_of(cameras, around) == "object":
        ahead = ((frames.positions - around.center) * frames.c2w[:, :, 2]).sum(dim=-1)
        return ahead.clamp(min=frames.near)
    return 1 / (0.25 / frames.near.clamp(min=1e-6) + 0.75 / frames.far)


def orbit(
    cameras: Cameras, n_frames: int, elevation: float | None = None, radius: float | None = None
) -> Cameras:
    """One full turn; the last frame comes just before the first again.

    Args:
        cameras: the training cameras.
        n_frames: of the film.
        elevation: above the ground, radians; without it, that of the cameras near each frame.
        radius: distance from the middle, scene units; without it, theirs.
    """
    azimuths = torch.arange(n_frames) * (2 * math.pi / n_frames)
    return _around(cameras, azimuths, elevation, radius)


def swing(
    cameras: Cameras,
    n_frames: int,
    gap: float = WIDEST,
    elevation: float | None = None,
    radius: float | None = None,
) -> Cameras:
    """Back and forth over the widest sector that cameras cover without gaps larger than `gap`."""
    begin, extent = covered_arc(cameras, Surroundings.of(cameras), gap)
    phase = torch.arange(n_frames) * (2 * math.pi / n_frames)
    azimuths = begin + extent / 2 * (1 + phase.sin())
    return _around(cameras, azimuths, elevation, radius)


def covered_arc(cameras: Cameras, around: Surroundings, gap: float = WIDEST) -> tuple[float, float]:
    """The longest way round on which cameras stand, between gaps of more than `gap` radians.

    Returns:
        Azimuth of its first camera and its extent, radians; 2 pi where there is no such gap.
    """
    azimuths = around.angles(cameras.positions)[0].double().sort().values
    gaps = azimuths.roll(-1) - azimuths
    gaps[-1] += 2 * math.pi
    cuts = (gaps > gap).nonzero()[:, 0]
    if len(cuts) == 0:
        return float(azimuths[0]), 2 * math.pi
    begins, ends = azimuths[(cuts + 1) % len(azimuths)], azimuths[cuts.roll(-1)]
    extents = (ends - begins) % (2 * math.pi)
    longest = int(extents.argmax())
    return float(begins[longest]), float(extents[longest])


def _around(
    cameras: Cameras, azimuths: Tensor, elevation: float | None, radius: float | None
) -> Cameras:
    """Frames that look at the middle from azimuths (n_frames,)."""
    around = Surroundings.of(cameras)
    own, elevations, radii = around.angles(cameras.positions)
    apart = torch.remainder(azimuths[:, None] - own + math.pi, 2 * math.pi) - math.pi
    # Straight above there is no azimuth to be near to.
    weights = (elevations.cos().clamp(min=1e-6).log() - (apart / NEAR_BY) ** 2 / 2).softmax(dim=1)
    elevations = weights @ elevations if elevation is None else torch.full_like(azimuths, elevation)
    places = around.positions(azimuths, elevations, weights @ radii if radius is None else radius)
    return fly(cameras, look_at(places, around.center, around.up), around)


def loop(cameras: Cameras, n_frames: int, tilt: float = TILTS[0], turns: int = 2) -> Cameras:
    """Loops among cameras that face one way, which also move forward and back.

    Args:
        cameras: the training cameras.
        n_frames: of the film.
        tilt: how far it reaches, standard deviations of the cameras.
        turns: in all frames.
    """
    offsets = (cameras.positions - cameras.positions.mean(dim=0)).double()
    backward, upward = (cameras.c2w[:, :, k].mean(dim=0).double() for k in (2, 1))
    axes = look_at(torch.zeros(1, 3).double(), -backward, upward)[0, :, :3]
    offsets = offsets @ axes
    spread = offsets.square().mean(dim=0).sqrt()
    spread = spread.clamp(min=max(0.1 * float(spread.max()), 1e-9))
    angles = torch.arange(n_frames).double() * (2 * math.pi * turns / n_frames)
    ways = torch.stack([angles.cos(), -angles.sin(), -0.5 * (angles / turns).sin()], dim=1)
    # Weights that grow exponentially along a direction move the mean there, within the hull.
    weights = (tilt * ways @ (offsets / spread).T).softmax(dim=1)
    return blend(cameras, weights, upward)


def walk(cameras: Cameras, n_frames: int) -> Cameras:
    """A smooth way along the longest run of cameras without a jump.

    In the order of the capture or, where that jumps about, from each camera to the nearest one.
    """
    run, lengths = _longest_run(cameras)
    apart = _at_even_pace(lengths, n_frames)[:, None] - torch.arange(len(run)).double()
    return blend(run, (-(apart**2) / 2).softmax(dim=1), Surroundings.of(cameras).up.double())


def _longest_run(cameras: Cameras) -> tuple[Cameras, Tensor]:
    """The cameras that a walk passes, m of them, and how far it has come at each, (m,): radians of
    turning, and as much for going as far as they stand from their middle."""
    offsets = cameras.positions - cameras.positions.mean(dim=0)
    depths = middle_depths(cameras, cameras, Surroundings.of(cameras))
    scale = offsets.norm(dim=-1).mean().clamp(min=ROOM * float(depths.median()))
    places = torch.cat([offsets / scale, cameras.c2w[:, :, 2]], dim=1).double()
    order = _shorter(places, list(range(len(cameras))), nearest_neighbor_order(places))
    steps = places[order].diff(dim=0).norm(dim=-1)
    cuts = [-1, *(steps > JUMP).nonzero()[:, 0].tolist(), len(steps)]
    first, last = max(pairwise(cuts), key=lambda ends: ends[1] - ends[0])
    run = cameras[order[first + 1 : last + 1]]
    return run, F.pad(steps[first + 1 : last].cumsum(dim=0), (1, 0))


def _shorter(places: Tensor, first: list[int], second: list[int]) -> list[int]:
    """The first order of places (n, d), unless it is half as long again as the second."""
    one, other = (places[order].diff(dim=0).norm(dim=-1).sum() for order in (first, second))
    return first if one <= 1.5 * other else second


def _at_even_pace(lengths: Tensor, n_frames: int) -> Tensor:
    """Fractional indices (n_frames,) into growing lengths (n,) that advance evenly along them."""
    if len(lengths) == 1:
        return torch.zeros(n_frames).double()
    goals = torch.linspace(0, float(lengths[-1]), n_frames).double()
    left = (torch.searchsorted(lengths, goals, right=True) - 1).clamp(0, len(lengths) - 2)
    step = (lengths[left + 1] - lengths[left]).clamp(min=1e-12)
    return left + ((goals - lengths[left]) / step).clamp(0, 1)


def sway(cameras: Cameras, n_frames: int) -> Cameras:
    """A small circle around the position of the first camera, looking at the same point."""
    one, around = cameras[:1], Surroundings.of(cameras)
    depth = middle_depths(one, cameras, around)
    right, upward, backward, position = one.c2w[0].unbind(-1)
    angles = torch.arange(n_frames) * (2 * math.pi / n_frames)
    waves = angles.sin()[:, None] * right + 0.5 * angles.cos()[:, None] * upward
    places = position + math.tan(SWAY) * depth * waves
    return one.with_poses(look_at(places, position - depth * backward, upward))


def blend(cameras: Cameras, weights: Tensor, up: Tensor) -> Cameras:
    """Weighted means of cameras: where they stand, where they look, near and far.

    Args:
        cameras: (n).
        weights: of each for each frame, at least 0, of sum 1, float64, (n_frames, n).
        up: the direction that is kept upright in the image, float64, (3,).
    """
    _, upward, backward, positions = (weights @ axis for axis in cameras.c2w.double().unbind(-1))
    # Relative to the origin: with far positions the directions would lose precision.
    poses = look_at(torch.zeros_like(positions), -backward, up + UPRIGHT * upward)
    poses[:, :, 3] = positions
    near, far = ((weights @ values.double()).float() for values in (cameras.near, cameras.far))
    return replace(cameras.with_poses(poses.float()), near=near, far=far)
