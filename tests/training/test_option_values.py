"""Values of options that no run can have are one sentence."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dietnerf.export import render
from dietnerf.runs.checkpoints import find_checkpoint
from dietnerf.training import cli
from tests.helpers import refused


def test_options_out_of_range_are_named(finished_run: Path, tmp_path: Path, capsys):
    content = torch.load(find_checkpoint(finished_run), weights_only=True)
    content["hyper_parameters"]["sampler"]["init_args"]["resolution"] = 100_000
    torch.save(content, tmp_path / "evil.ckpt")
    said = refused(capsys, render.main, str(tmp_path / "evil.ckpt"))
    assert "evil.ckpt: resolution is 100000; it must be" in said


UNUSABLE = {
    "a keeper": ("callbacks", [{"class_path": "ModelCheckpoint", "init_args": {"save_top_k": -5}}]),
    "a clock": ("callbacks", [{"class_path": "Timer", "init_args": {"duration": "x"}}]),
    "fewer devices than none": ("devices", -7),
    "a billion devices": ("devices", 10**9),
    "text for devices": ("devices", "1000000000"),
    "no step between logs": ("log_every_n_steps", 0),
    "no step between validations": ("val_check_interval", 0),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_options_that_lightning_cannot_use_are_one_sentence(
    case: str, finished_run: Path, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    name, value = UNUSABLE[case]
    config["trainer"][name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
    assert said.startswith("error: ")


@pytest.mark.parametrize("seed", ["-1", "1099511627776"])
def test_a_seed_that_is_none_is_one_sentence(seed: str, finished_run: Path, capsys):
    said = refused(
        capsys, cli.main, "validate", "--run", str(finished_run), "--seed_everything", seed
    )
    assert said.startswith("error: seed_everything")
