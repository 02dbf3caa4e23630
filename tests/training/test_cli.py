"""Subcommands of the command line: what a run holds, how it goes on, and which options it takes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.training import cli
from tests.helpers import SMALL_RUN, fit, refused, weights


def test_a_run_holds_what_a_user_needs(finished_run: Path):
    names = {path.name for path in (finished_run / "checkpoints").iterdir()}
    assert names == {"000004.ckpt", "000008.ckpt", "000012.ckpt", "best.ckpt", "last.ckpt"}
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["data"]["rays_per_step"] == 64, "the command line beats the file"
    assert config["seed_everything"] == 0


def test_same_seed_same_weights_to_the_bit(finished_run: Path, tmp_path: Path):
    fit(tmp_path / "again")
    fit(tmp_path / "other", "--seed_everything", "1")
    last = "checkpoints/last.ckpt"
    expected = weights(finished_run / last)
    again, other = weights(tmp_path / "again" / last), weights(tmp_path / "other" / last)
    assert all(torch.equal(again[key], value) for key, value in expected.items())
    assert not all(torch.equal(other[key], value) for key, value in expected.items())


def test_a_resumed_run_ends_where_an_unbroken_one_does(finished_run: Path, tmp_path: Path):
    """From the middle of an interval between validations, and by name."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.copy(run / "checkpoints/000004.ckpt", run / "checkpoints/last.ckpt")
    assert n_rays(run) != 64, "it has to go on with as many rays as it had come to"
    fit(run, "--ckpt_path", "last")
    expected = weights(finished_run / "checkpoints/last.ckpt")
    found = weights(run / "checkpoints/last.ckpt")
    assert "sampler.occupied" in found and n_rays(run) == n_rays(finished_run)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def n_rays(run: Path) -> int:
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return saved["SceneDataModule"]["n_rays"]


@pytest.mark.parametrize("every", ["5", "100"])
def test_the_last_checkpoint_is_that_of_the_last_step(every: str, tmp_path: Path):
    fit(tmp_path / "run", "--save_every", every)
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 12 == last["dietnerf"]["history"]["steps"]


def test_gradient_clipping_limits_the_whole_gradient(tmp_path: Path):
    """A clip to almost nothing leaves Adam's moments almost empty, chunks or not."""
    fit(tmp_path / "run", "--model.max_gradient_norm", "1e-6", "--data.rays_per_step", "512")
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    moments = [state["exp_avg"] for state in saved["optimizer_states"][0]["state"].values()]
    assert 0 < sum(m.square().sum() for m in moments).sqrt() <= 1e-6


def test_half_precision(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.precision", "bf16-mixed")
    system = load_scene(find_checkpoint(tmp_path / "run"))
    for name, parameter in system.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.isfinite().all(), name
    cli.main(["test", "--run", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"])
    assert json.loads((tmp_path / "run/metrics.json").read_text())["mean"]["psnr"] > 8


def test_print_config_shows_the_overlaid_values(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--config", "nerf", "--config", "cpu", "--print_config"])
    assert ended.value.code in (0, None)
    config = yaml.safe_load(capsys.readouterr().out)
    reader = config["data"]["reader"]["init_args"]
    assert reader["downscale"] == 8 and reader["root"] == "nerf_synthetic/lego"
    # The overlay's sampler ends the last interval at far, not where the base does.
    assert config["model"]["sampler"]["init_args"]["last_delta"] is None


def test_resume_keeps_the_seed_that_the_run_began_with(tmp_path: Path):
    run = tmp_path / "run"
    fit(run, "--seed_everything", "3")
    begun = weights(run / "checkpoints/last.ckpt")
    shutil.copy(run / "checkpoints/000004.ckpt", run / "checkpoints/last.ckpt")
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last"])  # with the run's own config
    found = weights(run / "checkpoints/last.ckpt")
    assert all(torch.equal(found[key], value) for key, value in begun.items())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("field", ("width", "48")),
        ("field", ("log2_table_size", "12")),
        ("field", ("finest_resolution", "128")),  # a table of the same size
        ("sampler", ("resolution", "64")),
    ],
    ids=str,
)
def test_another_model_is_refused_and_leaves_the_run_as_it_is(
    option: str, value: tuple[str, str], finished_run: Path, capsys
):
    before = contents(finished_run)
    options = ["--run", str(finished_run), f"--model.{option}.init_args.{value[0]}", value[1]]
    for command in (["fit", *SMALL_RUN, "--ckpt_path", "last"], ["test"]):
        assert "does not fit the model" in refused(capsys, cli.main, *command, *options)
    assert contents(finished_run) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
