"""What each schedule does to a field and to rays, at the start, on the way, and in the end."""

import math

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.fields import MLP, Ensemble, HashGrid
from dietnerf.schedules import LevelAnnealing
from dietnerf.schedules.base import Progress
from tests.helpers import Ball, inward_rays

RAYS = inward_rays(2)


def grid() -> HashGrid:
    return HashGrid(n_levels=4, base_resolution=16, finest_resolution=128, log2_table_size=8)


def weights(schedule, step: int, field=None, n_steps: int = 100) -> list[float]:
    field = field or grid()
    schedule.apply(Progress(step, n_steps), field, RAYS)
    return field.frequency_bands()[0].weights.tolist()


def test_levels_join_one_after_the_other():
    linear = LevelAnnealing(until=0.5, first=1, shape="linear")
    assert weights(linear, 0) == [1, 0, 0, 0]
    assert weights(linear, 25) == pytest.approx([1, 1, 0.5, 0])
    assert weights(linear, 50) == weights(linear, 99) == [1, 1, 1, 1]
    cosine = weights(LevelAnnealing(until=0.5, first=0), 20)
    assert cosine == pytest.approx([1, (1 - math.cos(0.6 * math.pi)) / 2, 0, 0])


def test_the_octaves_of_an_mlp_are_levels_too():
    field = MLP(depth=2, width=8, position_octaves=4, direction_octaves=2)
    assert weights(LevelAnnealing(until=0.5, first=2, directions=True), 0, field) == [1, 1, 0, 0]
    assert field.direction_bands()[0].weights.tolist() == [1, 1]
    x = torch.rand(5, 3)
    encoded = field.encode_position(x)
    assert encoded[:, : 3 + 12].abs().min() > 0
    assert encoded[:, 3 + 12 :].abs().max() == 0


def test_every_member_of_an_ensemble_is_annealed():
    field = Ensemble(grid, n=2)
    LevelAnnealing(until=0.5, first=1).apply(Progress(0, 10), field, RAYS)
    assert [d.weights.tolist() for d in field.frequency_bands()] == [[1, 0, 0, 0]] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LevelAnnealing(until=1.5), "until is 1.5; it must be a share of the run"),
        (lambda: LevelAnnealing(first=-1), "first must be at least 0"),
        (lambda: LevelAnnealing().check(Ball()), "LevelAnnealing: Ball has no levels of detail"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(UserError, match=message):
        make()
