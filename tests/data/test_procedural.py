import math

import pytest
import torch

from dietnerf.data import Procedural
from dietnerf.data.procedural.coast import coast_scene
from dietnerf.data.procedural.solids import GROUND, Ball, Frustum, box, first_hit
from dietnerf.data.procedural.tracing import trace
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays


def bundle(origins, directions):
    rays_o, rays_d = torch.tensor(origins), torch.tensor(directions)
    n = len(rays_o)
    return Rays(rays_o, rays_d, torch.full((n,), 0.1), torch.full((n,), 10.0))


def white(p):
    return torch.ones_like(p)


@pytest.fixture(scope="module")
def views():
    return Procedural(resolution=64, n_train=4).read("train")


@pytest.mark.parametrize(
    ("solid", "origin", "direction", "t", "normal"),
    [
        (Ball((0, 0, 1), 0.5, white), (0, -3, 1), (0, 2, 0), 1.25, (0, -1, 0)),
        (box((1, 0, 0), (2, 4, 6), white), (-3, 0.5, 1), (1, 0, 0), 3.0, (-1, 0, 0)),
        (box((0, 0, 0), (2, 2, 2), white, math.pi / 4), (-4, 0, 0), (1, 0, 0), 4 - 2**0.5, None),
        (box((0, 0, 0), (2, 4, 6), white, 0, math.pi / 2), (0, 0, 4), (0, 0, -1), 3.0, (0, 0, 1)),
        (Frustum((0, 0, 0), 1, 1, 2, white), (-3, 0, 1), (1, 0, 0), 2.0, (-1, 0, 0)),
        (Frustum((0, 0, 0), 1, 1, 2, white), (0.5, 0, 5), (0, 0, -1), 3.0, (0, 0, 1)),
        (Frustum((0, 0, 0), 1, 1, 2, white), (0.5, 0, -5), (0, 0, 1), 5.0, (0, 0, -1)),
        # A cone of slope 1: at height 1 its radius is 1, and its normal rises by 45 degrees.
        (
            Frustum((0, 0, 0), 2, 0, 2, white),
            (-3, 0, 1),
            (1, 0, 0),
            2.0,
            (-(0.5**0.5), 0, 0.5**0.5),
        ),
    ],
)
def test_solids_are_met_where_geometry_says(solid, origin, direction, t, normal):
    rays_o, rays_d = torch.tensor([origin]).float(), torch.tensor([direction]).float()
    distance, which = first_hit([[solid]], rays_o, rays_d)
    assert which.tolist() == [0]
    assert distance.item() == pytest.approx(t, abs=1e-5)
    if normal is not None:
        point = rays_o + distance[:, None] * rays_d
        torch.testing.assert_close(
            solid.look(point)[1], torch.tensor([normal]).float(), atol=1e-5, rtol=0
        )
    beside, _ = first_hit([[solid]], rays_o + 9 * torch.tensor([0.3, 0.5, 0.9]), rays_d)
    behind, _ = first_hit([[solid]], rays_o, -rays_d)
    assert beside.isinf().all()
    assert behind.isinf().all()


def test_culling_changes_nothing(views):
    groups = coast_scene()
    rays = views.cameras.image_rays(0)
    t, which = first_hit(groups, rays.rays_o, rays.rays_d)
    solids = [solid for group in groups for solid in group]
    ts = torch.stack([solid.hit(rays.rays_o, rays.rays_d) for solid in solids])
    assert torch.equal(t, ts.amin(dim=0))
    assert torch.equal(which, torch.where(t.isinf(), -1, ts.argmin(dim=0)))


def test_depth_of_the_ground_is_its_height(views):
    rays = bundle([[0.6, -0.75, 3.5], [3.0, 3.0, 3.0]], [[0.0, 0.0, -2.0], [0.0, 0.0, -1.0]])
    rgba, depth = trace(rays, coast_scene())
    torch.testing.assert_close(depth, torch.tensor([(3.5 - GROUND) / 2, 0.0]))
    assert rgba[:, 3].tolist() == [1.0, 0.0]


def test_near_and_far_bound_what_is_seen():
    rays = bundle([[0.6, -0.75, 3.5]], [[0.0, 0.0, -1.0]])
    nearer = Rays(rays.rays_o, rays.rays_d, rays.near, torch.tensor([3.9]))
    assert trace(rays, coast_scene())[1].item() == pytest.approx(4.0, abs=1e-5)
    assert trace(nearer, coast_scene())[1].item() == 0


@pytest.mark.parametrize("scene", ["coast", "blocks", "mosaic"])
def test_everything_lies_within_the_promised_radius(scene: str):
    views = Procedural(resolution=48, n_train=4, scene=scene).read("train")
    for i in range(len(views)):
        rays, depth = views.cameras.image_rays(i), views.depths[i].flatten()
        points = rays.rays_o + depth[:, None] * rays.rays_d
        assert points[depth > 0].norm(dim=-1).max() < 1.25
        assert 0.1 < (depth > 0).float().mean() < 0.6


def test_two_views_agree_on_points_that_both_see(views):
    """What view 0 sees has the same color where view 1 sees it too."""
    cameras = views.cameras
    rays = cameras.image_rays(0)
    rgba, depth = trace(rays, coast_scene())
    points = (rays.rays_o + depth[:, None] * rays.rays_d)[depth > 0]
    origin = cameras.positions[1].expand(len(points), 3)
    n = len(points)
    to_points = Rays(origin, points - origin, torch.full((n,), 0.1), torch.full((n,), 2.0))
    other_rgba, other_t = trace(to_points, coast_scene())
    is_visible = (other_t - 1).abs() < 1e-4
    assert (
        0.2 < is_visible.float().mean() < 0.95
    )  # some are hidden, the arch and the tower see to it
    difference = (other_rgba - rgba[depth > 0]).abs().amax(dim=-1)[is_visible]
    # Equal but for highlights, and for points on the very edge of a color or shadow.
    assert (difference < 0.02).float().mean() > 0.9
    # The pinhole model agrees: the point falls into a pixel whose stored depth is near.
    in_camera = (points - cameras.positions[1]) @ cameras.c2w[1, :, :3]
    x = cameras.focal[1, 0] * in_camera[:, 0] / -in_camera[:, 2] + cameras.center[1, 0]
    y = -cameras.focal[1, 1] * in_camera[:, 1] / -in_camera[:, 2] + cameras.center[1, 1]
    stored = views.depths[1][y.long().clamp(0, 63), x.long().clamp(0, 63)]
    error = (stored + in_camera[:, 2]).abs()[is_visible]
    assert error.median() < 0.02


def test_pictures_are_neither_flipped_nor_turned():
    """From -y, x goes right and z up: the red roof is upper left, the blue ball lower right."""
    scene = Procedural(resolution=64, n_test=1).read("test")
    roof, ball = torch.tensor([-0.40, 0.24, 0.78]), torch.tensor([0.36, -0.42, -0.33])
    for point, place, strongest in ((roof, "upper left", 0), (ball, "lower right", 2)):
        x, y, z = (point - scene.cameras.positions[0]) @ scene.cameras.c2w[0, :, :3]
        column = int(32 - scene.cameras.focal[0, 0] * x / z)
        row = int(32 + scene.cameras.focal[0, 1] * y / z)
        assert place == f"{'upper' if row < 32 else 'lower'} {'left' if column < 32 else 'right'}"
        red, green, blue, _ = scene.images[0, row, column].tolist()
        assert max(range(3), key=[red, green, blue].__getitem__) == strongest


def test_pictures_have_soft_edges_and_straight_alpha(views):
    alpha = views.images[..., 3]
    partial = (alpha > 0) & (alpha < 255)
    assert partial.float().mean() > 0.01
    # Straight colors do not darken towards a transparent edge.
    edge, inside = views.images[partial][:, :3].float(), views.images[alpha == 255][:, :3].float()
    assert edge.mean() > 0.6 * inside.mean()
    assert (views.images[alpha == 0] == 0).all()


def test_pictures_do_not_depend_on_run_threads_or_number_of_views(views):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1 if n_threads > 1 else 2)
    try:
        again = Procedural(resolution=64, n_train=2).read("train")
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(again.images, views.images[:2])
    assert torch.equal(again.depths, views.depths[:2])
    other = Procedural(resolution=64, n_train=2, seed=1).cameras("train")
    assert not torch.equal(other.c2w, again.cameras.c2w)


def test_cameras_are_spread_on_the_upper_hemisphere_and_differ_between_splits():
    reader = Procedural(n_train=8, n_val=8, n_test=16)
    positions = {split: reader.cameras(split).positions for split in ("train", "val", "test")}
    for points in positions.values():
        torch.testing.assert_close(points.norm(dim=-1), torch.full((len(points),), 4.0))
        assert points[:, 2].min() > 0
        assert torch.pdist(points).min() > 0.7
    assert torch.cdist(positions["train"], positions["val"]).min() > 0.1


def test_sizes_below_one_are_refused():
    with pytest.raises(UserError, match="n_val must be 1 to 10000, got 0"):
        Procedural(n_val=0)
