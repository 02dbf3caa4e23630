"""Rays through lenses are found with a table, and are those that Newton's method finds."""

import pytest
import torch

from dietnerf.geometry.lens_table import LensTable
from dietnerf.geometry.lenses import Lenses

KINDS = {
    "barrel": ([-0.28, 0.07, 0, 0, 2e-4, -3e-4, 0, 0, 0], False),
    "rational": ([0.4, -0.1, 0.02, 0, 1e-3, 0, 0.45, 0.02, 0.01], False),
    "fisheye": ([-0.02, 0.004, -0.003, 5e-4, 0, 0, 0, 0, 0], True),
    "none": ([0.0] * 9, False),
}
FOLD = ([-0.3] + [0.0] * 8, False)  # shows nothing beyond a distance of 0.7
FOCAL = 3260.0  # of a photograph of 12 megapixels
HIGH = torch.tensor([4032.0, 3024.0]) / 2 / FOCAL


def table_of(*kinds, high=HIGH):
    distortion = torch.tensor([coefficients for coefficients, _ in kinds])
    lenses = Lenses.of(distortion, torch.tensor([is_fisheye for _, is_fisheye in kinds]))
    ends = high.expand(len(kinds), 2)
    return LensTable.of(lenses, -ends, ends)


def random_places(n, high=HIGH):
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(n, 2, dtype=torch.float64, generator=generator) - 1) * high


def off(table, ids, places):
    """By how many pixels rays are shown away from their place, at most."""
    shown, _ = table.lenses[ids].distort(table.undistort(ids, places))
    return float((shown - places).norm(dim=-1).max()) * FOCAL


@pytest.mark.parametrize("kind", KINDS)
def test_rays_go_through_their_pixels(kind):
    table = table_of(KINDS[kind])
    assert table.n_steps in (1, 2)
    assert off(table, torch.zeros(20_000, dtype=torch.int64), random_places(20_000)) < 1e-4


def test_every_ray_goes_through_its_own_lens():
    table = table_of(*KINDS.values())
    ids = torch.arange(20_000) % len(KINDS)
    assert off(table, ids, random_places(20_000)) < 1e-4


def test_a_lens_that_ends_within_the_photograph_is_found_without_a_table():
    high = torch.tensor([0.9, 0.9])
    table = table_of(FOLD, high=high)
    ids, places = torch.zeros(2000, dtype=torch.int64), random_places(2000, high)
    expected, is_shown = table.lenses[ids].undistort(places)
    assert table.n_steps is None and 0.3 < is_shown.float().mean() < 0.9
    torch.testing.assert_close(table.undistort(ids, places), expected)
