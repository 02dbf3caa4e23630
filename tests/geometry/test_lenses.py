import math

import numpy as np
import pytest
import torch

from dietnerf.geometry.lenses import Lenses

BARREL = {"k1": -0.28, "k2": 0.07, "p1": 2e-4, "p2": -3e-4}
RATIONAL = {"k1": 0.4, "k2": -0.1, "k3": 0.02, "p1": 1e-3, "q1": 0.45, "q2": 0.02, "q3": 0.01}
FISHEYE = {"k1": -0.02, "k2": 0.004, "k3": -0.003, "k4": 5e-4}
LENSES = {"barrel": (BARREL, False), "rational": (RATIONAL, False), "fisheye": (FISHEYE, True)}
ORDER = ("k1", "k2", "k3", "k4", "p1", "p2", "q1", "q2", "q3")


def lenses(coefficients, is_fisheye):
    row = [coefficients.get(name, 0.0) for name in ORDER]
    return Lenses.of(torch.tensor([row]), torch.tensor([is_fisheye]))


def grid(width=4032, height=3024, focal=3260.0):
    """Places of pixels over a whole photograph of 12 megapixels, (n, 2), float64."""
    rows, columns = torch.meshgrid(
        torch.arange(0, height, 31.0, dtype=torch.float64),
        torch.arange(0, width, 31.0, dtype=torch.float64),
        indexing="ij",
    )
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5
    return (pixels - torch.tensor([width / 2, height / 2])) / focal, focal


@pytest.mark.parametrize("kind", LENSES)
def test_undistorted_and_projected_pixels_come_back(kind):
    """Within 1e-4 pixels over all of a photograph of 12 megapixels."""
    lens = lenses(*LENSES[kind])
    places, focal = grid()
    pinhole, is_shown = lens.undistort(places)
    back, is_within = lens.distort(pinhole)
    assert is_shown.all() and is_within.all()
    assert (back - places).norm(dim=-1).max() * focal < 1e-4
    assert (pinhole - places).norm(dim=-1).max() * focal > 10


@pytest.mark.parametrize("kind", ["barrel", "rational"])
def test_the_formula_is_opencvs(kind):
    """As in the documentation of OpenCV's calib3d, here for one point."""
    c, _ = LENSES[kind]
    k1, k2, k3, _, p1, p2, q1, q2, q3 = (c.get(name, 0.0) for name in ORDER)
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + q1 * r2 + q2 * r2**2 + q3 * r2**3)
    expected = [
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    ]
    found, _ = lenses(*LENSES[kind]).distort(torch.tensor([[x, y]], dtype=torch.float64))
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


def test_a_fisheye_counts_by_the_angle():
    lens = lenses({}, True)
    angles = torch.tensor([0.0, 0.4, 1.2, 1.47], dtype=torch.float64)
    flat = torch.stack([angles, torch.zeros(4, dtype=torch.float64)], dim=-1)
    pinhole, is_shown = lens.undistort(flat)
    assert is_shown.all()
    torch.testing.assert_close(pinhole[:, 0], angles.tan())
    torch.testing.assert_close(lens.distort(pinhole)[0], flat)


def test_beyond_the_reach_of_a_lens_nothing_is_shown_and_places_stay_finite():
    fold = lenses({"k1": -0.3}, False)  # r (1 - 0.3 r^2) is largest at r = 1.054
    reach = math.sqrt(1 / 0.9)
    assert float(fold.reach) == pytest.approx(reach, abs=0.02)
    places, is_shown = fold.undistort(torch.tensor([[0.6, 0.0], [0.9, 0.0], [3.0, 0.0]]))
    assert is_shown.tolist() == [True, False, False]
    assert places.isfinite().all() and places[1:].norm(dim=-1).max() < reach + 1e-6
    _, is_within = fold.distort(torch.tensor([[1.0, 0.0], [1.5, 0.0]]))
    assert is_within.tolist() == [True, False]
    behind = lenses({}, True).undistort(torch.tensor([[1.6, 0.0]]))
    assert not behind[1].any() and behind[0].isfinite().all()
