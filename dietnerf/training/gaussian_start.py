"""Where Gaussians begin: sparse points and depth maps of a capture, depths at which its photos
agree, or the surface of a field."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.data.ray_sampling import RaySampling, RaySource
from dietnerf.data.stereo import StereoDepths
from dietnerf.errors import UserError
from dietnerf.fields import HashGrid
from dietnerf.gaussians import Gaussians, Points
from dietnerf.geometry.cameras import Cameras
from dietnerf.losses import Distortion, Interlevel, Photometric
from dietnerf.randomness import step_generator
from dietnerf.renderer import render_image
from dietnerf.sampling import Proposal
from dietnerf.training.learning_rate import LogLinear
from dietnerf.training.objective import Objective
from dietnerf.training.optimizers import make_optimizer

FEWEST_KNOWN = 500  # pixels of known depth that are a start
MOST_KNOWN = 1_000_000  # of them, drawn at random
FEWEST_AGREED = 0.1  # share of pixels whose depth photos agree on that is a start
FIELD_STEPS = 500
RAYS_PER_STEP = 1365
N_PIXELS = 200_000  # of all views together, in which a field's depth is looked up
AGREEMENT = 0.05  # of depths, relative
CELL = 1e-3  # share of the cameras' extent, in which one point is enough


def start(
    gaussians: Gaussians, dataset: ImageDataset, background: Tensor, say: Callable[[str], None]
) -> None:
    """Place the first Gaussians, and say where.

    Args:
        gaussians: prepared for the cameras.
        dataset: the training photographs.
        background: the color behind them, (3,).
        say: takes a line for the terminal.

    Raises:
        UserError: no surface was found.
    """
    points, where = known_points(dataset, background), "points whose depth is known"
    if len(points) < FEWEST_KNOWN:
        known = f"the depth of {len(points)} pixels" if len(points) else "no depth"
        say(f"{known} is known: the photos are compared to find where Gaussians begin")
        found = StereoDepths.of(dataset, background)
        share = float((found.depths > 0).float().mean())
        points, where = (
            agreed_points(found),
            f"depths on which photos agree ({share:.0%} of pixels)",
        )
        if share < FEWEST_AGREED:
            steps = f"{FIELD_STEPS} steps of a hash grid find more"
            say(f"they agree on the depth of {share:.1%} of their pixels: {steps}")
            points, where = field_points(dataset, background), "its surface"
    cell = CELL * float(gaussians.extent)
    generator = step_generator("points", 0, 0)
    chosen = points.thinned(gaussians.n_first, cell, generator)
    if len(chosen) == 0:
        raise UserError(
            "Gaussians found no surface to begin at: check the poses, or use a field, as "
            "configs/photos.yaml"
        )
    gaussians.place(chosen)
    say(f"{len(chosen)} Gaussians begin at {where}")


def known_points(dataset: ImageDataset, background: Tensor) -> Points:
    """The pixels whose depth is known."""
    if dataset.depths is None:
        return Points(torch.zeros(0, 3), torch.zeros(0, 3))
    known = dataset.depths > 0
    if dataset.masks is not None:
        known = known & dataset.masks
    places = known.nonzero()
    if len(places) > MOST_KNOWN:
        generator = step_generator("known points", 0, 0)
        places = places[torch.randint(len(places), (MOST_KNOWN,), generator=generator)]
    ids, rows, columns = places.unbind(-1)
    rays = dataset.cameras.rays(ids, columns, rows)
    positions = rays.rays_o + dataset.depths[ids, rows, columns][:, None] * rays.rays_d
    return Points(positions, dataset.rgb(dataset.pixels(ids, columns, rows), background))


def agreed_points(found: StereoDepths) -> Points:
    """The pixels whose depth others confirm."""
    ids, rows, columns = (found.depths > 0).nonzero().unbind(-1)
    rays = found.cameras.rays(ids, columns, rows)
    positions = rays.rays_o + found.depths[ids, rows, columns][:, None] * rays.rays_d
    return Points(positions, found.images[ids, rows, columns])


def field_points(dataset: ImageDataset, background: Tensor) -> Points:
    """Points on the surface of a hash grid, those alone that views agree on."""
    cameras = dataset.cameras
    objective = _trained_field(dataset, background)
    shrink = max(1.0, (cameras.width * cameras.height * len(cameras) / N_PIXELS) ** 0.5)
    small = cameras.resized(round(cameras.width / shrink), round(cameras.height / shrink))
    depths, positions, colors = [], [], []
    for i in range(len(small)):
        seen = render_image(small, i, objective.field, objective.sampler, background)
        is_solid = seen.opacity > 0.8
        depth = torch.where(is_solid, seen.depth / seen.opacity.clamp(min=1e-3), 0.0)
        rays = small.image_rays(i)
        depths.append(depth.view(small.height, small.width))
        positions.append((rays.rays_o + depth[:, None] * rays.rays_d)[is_solid])
        colors.append(seen.rgb[is_solid])
    points = Points(torch.cat(positions), torch.cat(colors))
    return points[agreed_on(points.positions, small, torch.stack(depths))]


def agreed_on(positions: Tensor, cameras: Cameras, depths: Tensor) -> Tensor:
    """Whether points (n, 3) lie on what at least two of the cameras see, their own counted, and
    hardly in the way of others, bool, (n,).

    Args:
        depths: along the axis, 0 where unknown, (n_cameras, height, width).
    """
    n_agree, n_through = (torch.zeros(len(positions)) for _ in range(2))
    for i, depth in enumerate(depths):
        camera = cameras[[i]]
        places, is_shown = camera.project(positions)
        found = F.grid_sample(depth[None, None], places[None], "nearest", align_corners=False)
        surface = found[0, 0, 0]
        distance = (camera.positions - positions) @ camera.c2w[0, :, 2]
        is_known = is_shown[0] & (surface > 0)
        n_agree += is_known & ((distance - surface).abs() < AGREEMENT * surface)
        n_through += is_known & (distance < (1 - 2 * AGREEMENT) * surface)
    return (n_agree >= 2) & (n_through <= 0.3 * n_agree)


def _trained_field(dataset: ImageDataset, background: Tensor) -> Objective:
    objective = Objective(
        field=HashGrid(log2_table_size=17, finest_resolution=512, sh_degree=2, is_unbounded=True),
        sampler=Proposal(n_samples=24),
        losses=[Photometric(), Interlevel(), Distortion(weight=0.003, ramp=200)],
    )
    objective.prepare(dataset, background, torch.device("cpu"))
    source = RaySource(dataset, RaySampling(background if dataset.has_alpha else None))
    law = LogLinear(initial=2e-2, final=2e-3)
    optimizer = make_optimizer("skipping_adam", objective, law.initial, table_decay=0.3)
    for step in range(FIELD_STEPS):
        batch = source.draw(RAYS_PER_STEP, step_generator("start rays", step, 0))
        weights = objective.ray_weights(step, FIELD_STEPS)
        generator = step_generator("start samples", step, 0)
        losses = objective.of_rays(batch, step, weights, generator)
        for group in optimizer.param_groups:
            group["lr"] = law(step, FIELD_STEPS)
        optimizer.zero_grad()
        losses.loss.backward()
        optimizer.step()
    return objective
