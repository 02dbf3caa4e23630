"""Corrections of exposure: what they do to colors, that they are found, and the scored half."""

import json
from pathlib import Path

import pytest
import torch

from dietnerf.errors import UserError
from dietnerf.training.cli import main
from dietnerf.training.exposure import ExposureCorrection, fitted_on_left
from tests.helpers import fit, weights

GAINS = torch.tensor([[0.7, 0.8, 0.9], [1.0, 1.0, 1.0], [1 / 0.7, 1 / 0.8, 1 / 0.9]])


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(6, 8, 3, generator=torch.Generator().manual_seed(seed))


def test_it_begins_with_the_colors_as_they_are():
    exposure = ExposureCorrection()
    exposure.prepare(3)
    colors = picture().view(-1, 3)
    assert torch.equal(exposure(colors, torch.zeros(48, dtype=torch.int64)), colors)


def test_gains_of_photos_are_found_relative_to_their_mean():
    exposure, colors = ExposureCorrection(), picture().view(-1, 3)
    exposure.prepare(3)
    optimizer = torch.optim.Adam(exposure.parameters(), lr=0.03)
    ids = torch.arange(48) % 3
    for _ in range(200):
        optimizer.zero_grad()
        (exposure(colors, ids) - GAINS[ids] * colors).square().mean().backward()
        optimizer.step()
    found = exposure(torch.ones(3, 3), torch.arange(3)) - exposure(
        torch.zeros(3, 3), torch.arange(3)
    )
    torch.testing.assert_close(found, GAINS, atol=0.03, rtol=0)


def test_all_photos_alike_are_no_reason_for_a_correction():
    """What they have in common is the field's own color."""
    exposure = ExposureCorrection()
    exposure.prepare(4)
    for parameter in exposure.parameters():
        parameter.data += torch.tensor([0.3, -0.2, 0.1])
    colors = picture().view(-1, 3)
    torch.testing.assert_close(exposure(colors, torch.arange(48) % 4), colors)


def test_a_checkpoint_says_how_many_photos_there_were():
    trained, loaded = ExposureCorrection(), ExposureCorrection()
    trained.prepare(5)
    trained.log_gains.data.normal_()
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded.log_gains, trained.log_gains)


def test_the_left_half_tells_the_exposure_of_the_right():
    photo = picture()
    rendered = (photo - 0.1) / torch.tensor([0.6, 0.8, 1.2])
    torch.testing.assert_close(fitted_on_left(rendered, photo), photo)


def test_the_right_half_of_the_photo_is_not_fitted():
    rendered, photo, other = picture(0), picture(1), picture(1)
    other[:, 4:] = 0
    assert torch.equal(fitted_on_left(rendered, photo), fitted_on_left(rendered, other))


@pytest.mark.parametrize("shown", [torch.full((6, 8, 3), 0.5), picture()])
def test_a_picture_of_one_color_and_a_mask_of_nothing_are_fitted_too(shown: torch.Tensor):
    nothing = torch.zeros(6, 8, dtype=torch.bool)
    assert fitted_on_left(shown, picture(1)).isfinite().all()
    assert torch.equal(fitted_on_left(shown, picture(1), nothing), shown)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"decay": -1.0}])
def test_impossible_options_are_refused(options: dict[str, float]):
    with pytest.raises(UserError, match="exposure: rate is"):
        ExposureCorrection(**options)


UNBOUNDED = (
    *("--model.sampler", "{class_path: dietnerf.sampling.Proposal, init_args: {n_samples: 8}}"),
    *("--model.losses", "[{class_path: Photometric}, {class_path: dietnerf.losses.Interlevel}]"),
    *("--model.field.init_args.is_unbounded", "true"),
    *("--model.exposure", "ExposureCorrection"),
)


def test_a_run_with_proposals_and_exposures_is_continued_tested_and_reports_both(tmp_path: Path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    fit(whole, *UNBOUNDED)
    trained = weights(whole / "checkpoints/last.ckpt")
    assert trained["sampler.table"].any() and trained["exposure.log_gains"].any()
    fit(part, *UNBOUNDED, "--ckpt_path", str(whole / "checkpoints/000008.ckpt"))
    again = weights(part / "checkpoints/last.ckpt")
    assert all(torch.equal(trained[name], again[name]) for name in trained)
    main(["test", "--run", str(whole)])
    mean = json.loads((whole / "metrics.json").read_text())["mean"]
    assert mean["psnr_right_fitted"] > mean["psnr_right"] > 0


def test_proposals_without_the_loss_that_trains_them_are_refused(tmp_path: Path, capsys):
    with pytest.raises(SystemExit):
        fit(tmp_path / "run", "--model.sampler", "dietnerf.sampling.Proposal")
    assert "learns from the loss Interlevel" in capsys.readouterr().err
