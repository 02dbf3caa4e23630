"""Presets by how photos were taken."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dietnerf.data import LLFF
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import look_at
from dietnerf.presets import preset_for

UP = torch.tensor([0.0, 0.0, 1.0])
CONFIGS = Path(__file__).parents[1] / "configs"


def cameras(positions: torch.Tensor, target: list[float]) -> Cameras:
    n = len(positions)
    ones = torch.ones(n)
    poses = look_at(positions, torch.tensor(target), UP)
    return Cameras(
        poses, torch.full((n, 2), 50.0), torch.full((n, 2), 20.0), ones, 9 * ones, 40, 40
    )


def ring(n: int) -> Cameras:
    angles = torch.arange(n) * 2 * torch.pi / n
    return cameras(torch.stack([4 * angles.cos(), 4 * angles.sin(), torch.ones(n)], 1), [0.0, 0, 0])


def side(n: int) -> Cameras:
    places = torch.linspace(-0.5, 0.5, n)
    return cameras(torch.stack([places, torch.full((n,), 4.0), torch.ones(n)], 1), [0.0, 0, 0])


@pytest.mark.parametrize(
    ("taken", "configs"),
    [
        (ring(3), ("photos",)),
        (ring(60), ("photos", "gaussians")),
        (ring(19), ("photos",)),
        (side(20), ("photos", "gaussians")),
        (side(19), ("photos",)),
        (side(9), ("photos", "forward-few")),
        (side(3), ("photos", "forward-few")),
    ],
)
def test_the_preset_follows_from_the_cameras(taken: Cameras, configs: tuple[str, ...]):
    preset = preset_for(taken)
    assert preset.configs == configs
    assert f"{len(taken)} photos" in preset.reason
    assert all((CONFIGS / f"{name}.yaml").is_file() for name in configs)


@pytest.mark.parametrize(
    ("taken", "configs"),
    [
        (ring(60), ("photos", "gaussians")),
        (ring(19), ("photos", "points")),
        (side(20), ("photos", "gaussians")),
        (side(3), ("photos", "forward-few")),
    ],
)
def test_known_depths_are_made_use_of(taken: Cameras, configs: tuple[str, ...]):
    assert preset_for(taken, has_depths=True).configs == configs
    assert all((CONFIGS / f"{name}.yaml").is_file() for name in configs)


def test_options_that_gaussians_do_not_have_choose_a_field():
    assert preset_for(ring(60), has_depths=True, needs_field=True).configs == ("photos", "points")


@pytest.mark.parametrize("first", [0, 59])
def test_what_a_fisheye_took_is_not_drawn(first: int):
    taken = ring(60)
    wide = replace(
        taken,
        focal=torch.full((60, 2), 12.0),
        distortion=torch.zeros(60, 9, dtype=torch.float64),
        is_fisheye=torch.arange(60) >= first,
    )
    preset = preset_for(wide, has_depths=True)
    assert preset.configs == ("photos", "points") and "too wide for Gaussians" in preset.reason


def test_the_real_forward_facing_scene():
    if not (Path(os.environ.get("DIETNERF_DATA", "nowhere")) / "nerf_llff_data/fern").is_dir():
        pytest.skip("$DIETNERF_DATA has no nerf_llff_data/fern")
    taken = LLFF("nerf_llff_data/fern").cameras("train")
    assert taken is not None
    assert preset_for(taken).configs == ("photos",)
    assert preset_for(taken[[0, 8, 16]]).configs == ("photos", "forward-few")
