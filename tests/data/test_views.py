import pytest
import torch

from dietnerf.data import (
    AllViews,
    EvenViews,
    ExplicitViews,
    FarthestViews,
    FirstViews,
    OneSideViews,
    Procedural,
    RandomViews,
)
from dietnerf.errors import UserError


def cameras(n):
    return Procedural(n_train=n).cameras("train")


def choose(views, n=100):
    return views.choose(cameras(n), torch.arange(n))


def test_seed_0_gives_the_papers_views():
    assert choose(RandomViews(8)) == [26, 86, 2, 55, 75, 93, 16, 73]
    assert choose(RandomViews(4, seed=0)) == [26, 86, 2, 55]


def test_all_and_first_views_keep_the_order():
    assert choose(AllViews(), n=5) == [0, 1, 2, 3, 4]
    assert choose(FirstViews(3), n=5) == [0, 1, 2]


def test_explicit_views_go_by_number_not_position():
    numbers = torch.tensor([10, 20, 30])
    assert ExplicitViews([30, 10]).choose(cameras(3), numbers) == [2, 0]


def test_each_farthest_view_is_the_farthest_from_those_before():
    scene_cameras = cameras(40)
    chosen = FarthestViews(10, first=7).choose(scene_cameras, torch.arange(40))
    assert chosen[0] == 7
    assert len(set(chosen)) == 10
    distances = torch.cdist(scene_cameras.positions, scene_cameras.positions)
    for k in range(1, 10):
        gaps = distances[:, chosen[:k]].amin(dim=1)
        assert gaps[chosen[k]] == gaps.max()


def test_farthest_views_do_not_repeat_cameras_at_one_place():
    one = cameras(1)
    assert sorted(choose_from(one.with_poses(one.c2w.expand(4, 3, 4)), FarthestViews(4))) == [
        0,
        1,
        2,
        3,
    ]


def choose_from(some_cameras, views):
    return views.choose(some_cameras, torch.arange(len(some_cameras)))


def test_one_side_views_lie_on_that_side():
    scene_cameras = cameras(100)
    chosen = choose_from(scene_cameras, OneSideViews(14, azimuth_deg=170, width_deg=60))
    assert len(set(chosen)) == 14
    x, y, _ = scene_cameras.positions[chosen].unbind(-1)
    azimuth = torch.rad2deg(torch.atan2(y, x)) % 360
    assert azimuth.min() >= 140
    assert azimuth.max() <= 200


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: choose(FirstViews(101)), "n=101 views are wanted, but there are 100: ask for few"),
        (lambda: choose(RandomViews(9), n=8), "n=9 views are wanted, but there are 8"),
        (lambda: choose(FarthestViews(9), n=8), "n=9 views are wanted, but there are 8"),
        (lambda: choose(FarthestViews(2, first=8), n=8), "first=8 is not among the 8 views"),
        (lambda: choose(OneSideViews(9, 0, 10), n=8), "there are . within 5 degrees of 0: ask"),
        (lambda: choose(ExplicitViews([3, 8]), n=8), "names view 8, but the 8 views .* 0 to 7"),
        (lambda: RandomViews(0), "n, the number of views, must be at least 1, got 0"),
        (lambda: ExplicitViews([2, 5, 2]), "ids names view 2 more than once"),
        (lambda: ExplicitViews([]), "ids is empty"),
        (lambda: OneSideViews(3, width_deg=0), r"width_deg must be in \(0, 360\], got 0"),
    ],
)
def test_impossible_wishes_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_even_views_are_those_of_regnerf():
    """round(np.linspace(0, n - 1, n_views)) of the training views."""
    cameras = Procedural(n_train=17).cameras("train")
    ids = torch.arange(17)
    assert EvenViews(3).choose(cameras, ids) == [0, 8, 16]
    assert EvenViews(9).choose(cameras, ids) == list(range(0, 17, 2))
    assert EvenViews(1).choose(cameras, ids) == [0]
    with pytest.raises(UserError, match="n=18 views are wanted, but there are 17"):
        EvenViews(18).choose(cameras, ids)
