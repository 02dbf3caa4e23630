"""Schedules that no preset uses: at the start, on the way, and in the end."""

import math

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.fields import HashGrid
from dietnerf.research import DirectionAnnealing, NearFarAnnealing, RadiusAnnealing
from dietnerf.schedules.base import Progress
from tests.helpers import Ball, inward_rays


def grid() -> HashGrid:
    return HashGrid(n_levels=4, base_resolution=16, finest_resolution=128, log2_table_size=8)


def radius_weights(schedule: RadiusAnnealing, step: int) -> list[float]:
    field = grid()
    schedule.apply(Progress(step, 100), field, inward_rays(2))
    return field.frequency_bands()[0].weights.tolist()


def test_cells_smaller_than_the_ball_fade():
    schedule = RadiusAnnealing(until=0.8, radius=0.05, rate=0.2, parts=10)
    first = radius_weights(schedule, 0)
    assert first == pytest.approx(
        [math.erf(1 / 16 / 2**i / (math.sqrt(8) * 0.05)) for i in range(4)], rel=1e-5
    )
    later = radius_weights(schedule, 40)
    assert all(a < b for a, b in zip(first, later, strict=True))
    assert radius_weights(schedule, 80) == [1, 1, 1, 1]


def test_directions_may_stay_coarse():
    field = grid()
    DirectionAnnealing(n_bands=1, until=0.5).apply(Progress(49, 100), field, inward_rays(2))
    assert field.encode_direction.weights.tolist() == [1, 0, 0]
    encoded = field.encode_direction(torch.nn.functional.normalize(torch.rand(4, 3), dim=1))
    assert encoded[:, 1:].abs().max() == 0 < encoded[:, 0].abs().min()
    DirectionAnnealing(n_bands=1, until=0.5).apply(Progress(50, 100), field, inward_rays(2))
    assert field.encode_direction.weights.tolist() == [1, 1, 1]
    DirectionAnnealing(n_bands=2, until=1.0).apply(Progress(100, 100), field, inward_rays(2))
    assert field.encode_direction.weights.tolist() == [1, 1, 0]


def test_near_and_far_open_from_the_middle():
    rays = inward_rays(3)
    schedule = NearFarAnnealing(until=0.5, middle=0.5, first=0.2)
    first = schedule.apply(Progress(0, 100), Ball(), rays)
    torch.testing.assert_close(first.near, torch.full((3,), 3.6))
    torch.testing.assert_close(first.far, torch.full((3,), 4.4))
    half = schedule.apply(Progress(25, 100), Ball(), rays)
    torch.testing.assert_close(half.near, torch.full((3,), 3.0))
    assert schedule.apply(Progress(50, 100), Ball(), rays) is rays


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RadiusAnnealing(radius=0.0), "radius is 0.0"),
        (lambda: DirectionAnnealing(n_bands=-1), "n_bands must be at least 0"),
        (lambda: NearFarAnnealing(first=0.0), "first 0.0"),
        (lambda: RadiusAnnealing().check(Ball()), "RadiusAnnealing: Ball has no levels of detail"),
        (lambda: DirectionAnnealing().check(Ball()), "Ball has no view direction"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(UserError, match=message):
        make()
