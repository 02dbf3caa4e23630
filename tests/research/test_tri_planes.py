"""Tri-planes: a feature is a product of three, fits, and ends at its box."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from dietnerf.data import Procedural
from dietnerf.errors import UserError
from dietnerf.geometry.rays import Rays, Samples
from dietnerf.research import TriPlanes

BOX = [-1.5, -1.5, -1.5, 1.5, 1.5, 1.5]
CAMERAS = Procedural(resolution=20).cameras("train")


def field(**options) -> TriPlanes:
    small = {"n_levels": 2, "n_features": 4, "base_resolution": 4, "finest_resolution": 8}
    made = TriPlanes(**{**small, "width": 16, "bounds": BOX, **options})
    made.prepare(CAMERAS)
    return made


def at(points: torch.Tensor) -> Samples:
    zero = torch.zeros(len(points))
    return Samples.dense(Rays(points, torch.ones_like(points), zero, zero + 1), zero[:, None])


def test_features_are_products_at_the_vertices():
    made = field(n_levels=1)
    (planes,) = made.planes
    found = made._encode(torch.tensor([[0.25, 0.5, 0.75]]))  # vertices 1, 2 and 3 of 4 cells
    # Plane 0 has x along its columns and y along its rows, and so on around.
    expected = planes[0, :, 2, 1] * planes[1, :, 3, 2] * planes[2, :, 1, 3]
    torch.testing.assert_close(found[0], expected)


def test_a_level_of_weight_zero_does_not_count():
    made = field()
    made.frequency_bands()[0].weights[1] = 0
    unit = torch.rand(6, 3)
    before = made._encode(unit)
    torch.nn.init.uniform_(made.planes[1])
    assert torch.equal(made._encode(unit), before)
    assert made.frequency_bands()[0].sizes.tolist() == [0.25, 0.125]


def test_it_is_empty_outside_of_its_box():
    sigmas, _ = field().density(at(torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])))
    assert sigmas[0] > 0 and sigmas[1] == 0


def test_it_learns_a_ball():
    made = field(finest_resolution=16)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        points = 2 * torch.rand(512, 3) - 1
        is_inside = (points.norm(dim=1) < 0.7).float()
        sigmas, _ = made.density(at(points))
        losses.append(F.mse_loss(-torch.expm1(-sigmas), is_inside))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.25 * losses[0]


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="finest_resolution 8"):
        TriPlanes(base_resolution=16, finest_resolution=8)


NAMED = """
from pathlib import Path
from dietnerf.fields import AbstractField
from dietnerf.registry import OptionReader
from dietnerf.runs import checkpoints
named = {"class_path": "dietnerf.research.TriPlanes", "init_args": {"n_levels": 2}}
field = OptionReader(Path("x.ckpt")).value(named, AbstractField, "field").build()
print(len(field.planes))
"""


def test_whatever_reads_checkpoints_knows_it():
    done = subprocess.run([sys.executable, "-c", NAMED], capture_output=True, text=True)
    assert done.stdout.strip() == "2", done.stderr
