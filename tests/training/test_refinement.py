"""Runs that correct their cameras."""

from pathlib import Path

import torch

from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from tests.helpers import fit, weights

REFINE = ("--model.refinement", "CameraRefinement")


def test_a_run_moves_its_cameras_and_a_reload_has_them(tmp_path: Path):
    fit(tmp_path / "run", *REFINE)
    system = load_scene(find_checkpoint(tmp_path / "run"))
    assert system.camera_set is not None
    given, corrected = (
        c.cameras["train"] for c in (system.camera_set, system.refined_camera_set())
    )
    moved = (corrected.c2w - given.c2w).abs()
    assert 1e-6 < moved.max() < 0.1
    assert torch.equal(corrected.focal, given.focal)


def test_focal_lengths_follow_where_that_is_enabled(tmp_path: Path):
    fit(tmp_path / "run", *REFINE, "--model.refinement.init_args.refines_focal", "true")
    system = load_scene(find_checkpoint(tmp_path / "run"))
    assert system.camera_set is not None
    given, corrected = (
        c.cameras["train"] for c in (system.camera_set, system.refined_camera_set())
    )
    ratios = corrected.focal / given.focal
    assert 1e-6 < (ratios[0, 0] - 1).abs() < 0.1
    torch.testing.assert_close(ratios, ratios[0, 0].expand_as(ratios))


def test_a_broken_off_run_ends_as_an_unbroken_one(tmp_path: Path):
    fit(tmp_path / "whole", *REFINE)
    fit(tmp_path / "part", *REFINE, "--ckpt_path", str(tmp_path / "whole/checkpoints/000008.ckpt"))
    whole, part = (weights(tmp_path / run / "checkpoints/last.ckpt") for run in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)
