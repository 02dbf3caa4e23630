import math

import numpy as np
import pytest
import torch

from benchmarks import authors
from dietnerf.errors import UserError
from dietnerf.fields.encodings import FrequencyEncoding, SphericalHarmonics


def test_equals_the_authors_order():
    x = torch.randn(7, 3)
    assert torch.equal(FrequencyEncoding(10)(x), authors.encode(x, 10))


def test_prefix_is_the_encoding_with_fewer_octaves():
    x = torch.randn(5, 3)
    assert torch.equal(FrequencyEncoding(10)(x)[:, :21], FrequencyEncoding(3)(x))


def test_without_octaves_it_is_the_identity():
    x = torch.randn(4, 3)
    assert torch.equal(FrequencyEncoding(0)(x), x)
    assert FrequencyEncoding(0).n_features == 3


def test_spherical_harmonics_are_orthonormal():
    """Over the sphere: Gauss-Legendre in z, even steps in azimuth, exact for these degrees."""
    z, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(8))
    azimuth = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    level = (1 - z * z).sqrt()[:, None]
    x, y = level * azimuth.cos(), level * azimuth.sin()
    directions = torch.stack([x, y, z[:, None].expand_as(x)], dim=-1).reshape(-1, 3)
    areas = weights.repeat_interleave(16) * (2 * math.pi / 16)
    features = SphericalHarmonics(4)(directions)
    torch.testing.assert_close((features * areas[:, None]).T @ features, torch.eye(16).double())


def test_spherical_harmonics_have_the_signs_of_instant_ngp():
    features = SphericalHarmonics(2)(torch.eye(3))
    first, second = 0.28209479, 0.48860251
    expected = [[first, 0, 0, -second], [first, -second, 0, 0], [first, 0, second, 0]]
    torch.testing.assert_close(features, torch.tensor(expected))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_fewer_bands_are_a_prefix(degree: int):
    directions = torch.nn.functional.normalize(torch.randn(6, 3), dim=-1)
    few, all_bands = SphericalHarmonics(degree), SphericalHarmonics(4)
    assert torch.equal(few(directions), all_bands(directions)[:, : few.n_features])


def test_other_degrees_are_refused():
    with pytest.raises(UserError, match="SphericalHarmonics: degree must be 1 to 4, got 5"):
        SphericalHarmonics(5)
