"""Points that Gaussians begin at."""

import pytest
import torch

from dietnerf.gaussians import Points


def test_spacing_is_that_of_a_grid():
    axis = torch.arange(5.0) * 0.5
    points = Points(torch.cartesian_prod(axis, axis, axis), torch.rand(125, 3))
    torch.testing.assert_close(points.spacing(), torch.full((125,), 0.5))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points_have_a_spacing(n: int):
    spacing = Points(torch.rand(n, 3), torch.rand(n, 3)).spacing()
    assert spacing.shape == (n,) and (spacing > 0).all()


def test_thinned_points_are_in_different_cells():
    positions = torch.rand(1000, 3)
    points = Points(positions, positions)
    few = points.thinned(100, 0.25, torch.Generator().manual_seed(0))
    assert len(few) == 64
    assert len((few.positions / 0.25).floor().unique(dim=0)) == 64
    assert torch.equal(few.rgb, few.positions)
    assert len(points.thinned(10, 0.25, torch.Generator().manual_seed(0))) == 10
