import pytest
import torch
from scipy.spatial.transform import Rotation

from dietnerf.data import Procedural
from dietnerf.geometry.alignment import (
    Similarity,
    focus,
    guessed_range,
    recentered,
    spherified,
    unit_box,
    upright,
)


def poses(n=8, seed=0):
    """Cameras 4 away from a point, with the world turned and moved at random."""
    c2w = torch.eye(4, dtype=torch.float64).repeat(n, 1, 1)
    c2w[:, :3] = Procedural(n_train=n).cameras("train").c2w
    moved = torch.eye(4, dtype=torch.float64)
    moved[:3, :3] = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    moved[:3, 3] = torch.tensor([5.0, -3.0, 2.0])
    return moved @ c2w, moved[:3, 3]


@pytest.mark.parametrize("align", [recentered, upright, spherified])
def test_a_motion_keeps_rotations_and_distances(align):
    c2w, _ = poses()
    similarity = align(c2w)
    found = similarity.poses(c2w)
    turns = found[:, :3, :3]
    eye = torch.eye(3, dtype=torch.float64).expand(8, 3, 3)
    torch.testing.assert_close(turns @ turns.mT, eye)
    assert (turns.det() > 0).all()
    distances = torch.cdist(found[:, :3, 3], found[:, :3, 3]) / similarity.scale
    torch.testing.assert_close(distances, torch.cdist(c2w[:, :3, 3], c2w[:, :3, 3]))
    # what one camera sees of another stays the same
    seen, before = (torch.linalg.inv(p[0]) @ p[1] for p in (found, c2w))
    seen[:3, 3] /= similarity.scale
    torch.testing.assert_close(seen, before)


def test_upright_scenes_have_z_up_again():
    c2w, _ = poses()
    found = upright(c2w).poses(c2w)
    assert (found[:, 2, 1] > 0).all(), "no image is upside down"


def test_the_focus_is_what_all_look_at():
    c2w, center = poses()
    torch.testing.assert_close(focus(c2w), center, atol=1e-2, rtol=0)
    near, far = guessed_range(c2w)
    assert (near < 2).all() and (far > 6).all()


def test_spherified_cameras_are_at_distance_one_of_the_origin():
    c2w, _ = poses()
    found = spherified(c2w).poses(c2w)[:, :3, 3]
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(8).double(), atol=1e-2, rtol=0)


def looking(backwards, places=None):
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(backwards), 1, 1)
    for pose, angle in zip(c2w, backwards, strict=True):
        pose[:3, :3] = torch.from_numpy(Rotation.from_euler("y", angle).as_matrix())
    if places is not None:
        c2w[:, :3, 3] = torch.tensor(places, dtype=torch.float64)
    return c2w


@pytest.mark.parametrize(
    "c2w",
    [
        looking([0.0]),
        looking([0.0, 3.141592653589793]),
        looking([0.0, 0.0, 0.0], [[0, 0, 0], [1, 0, 0], [2, 0, 0]]),  # parallel
        looking([0.0, 2.1, 4.2]),  # a panorama
        looking([0.0, 3.141592653589793], [[0, 0, -2], [0, 0, 2]]),  # away from each other
    ],
    ids=["one", "opposite", "parallel", "panorama", "outward"],
)
def test_degenerate_captures_get_finite_frames_and_bounds(c2w):
    for align in (recentered, upright, spherified):
        similarity = align(c2w)
        assert similarity.poses(c2w).isfinite().all() and 0 < similarity.scale < 100
    near, far = guessed_range(c2w)
    assert ((near > 0) & (near < far) & far.isfinite()).all()
    assert 0 < unit_box(Similarity.identity().poses(c2w)) < 100
