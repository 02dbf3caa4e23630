"""Scores and images of the test views."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from dietnerf.training import cli
from dietnerf.training.callbacks.results import summary


def test_test_writes_metrics_that_say_where_they_come_from(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    cli.main(["test", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    found = json.loads((run / "metrics.json").read_text())
    assert found["train_view_ids"] == list(range(16))
    assert found["steps"] == 12 and found["seed"] == 0
    assert found["protocol"] == "Procedural, 3 test views at 16x16 on white"
    assert found["train_seconds"] > 0 and found["versions"]["torch"] == torch.__version__
    per_view = [view["psnr"] for view in found["per_view"]]
    assert len(per_view) == 3 == len(list((run / "test").glob("*.png")))
    assert found["mean"]["psnr"] == pytest.approx(sum(per_view) / 3)
    for name in ("lpips_vgg", "lpips_vgg_paper"):
        assert (found["mean"][name] is None) == (name in found["unavailable"])


def test_predict_writes_a_picture_for_each_test_camera_and_says_where(
    finished_run: Path, tmp_path: Path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    cli.main(["predict", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    assert len(list((run / "predict").glob("*.png"))) == 3
    assert f"is in {run / 'predict'}" in capsys.readouterr().out


def test_validate_scores_a_finished_run(finished_run: Path, capsys):
    run = ["--run", str(finished_run), "--trainer.enable_progress_bar", "false"]
    cli.main(["validate", *run])
    assert "val/psnr" in capsys.readouterr().out


def test_photographs_and_renderings_stand_on_the_same_background(finished_run: Path, capsys):
    """A black background darkens both: the field of a white scene is compared with its own."""
    silent = ["--trainer.enable_progress_bar", "false"]
    scores = []
    for background in ("white", "black"):
        cli.main(["validate", f"--run={finished_run}", f"--data.background={background}", *silent])
        scores.append(float(re.findall(r"val/psnr.*?([0-9.]+)", capsys.readouterr().out)[0]))
    assert abs(scores[0] - scores[1]) > 1e-3


def test_a_reason_that_scores_share_is_said_once():
    why = {"lpips_vgg_paper": "no weights", "lpips_vgg": "no weights", "psnr": "infinite"}
    said = summary({"psnr": None, "lpips_vgg": None, "lpips_vgg_paper": None}, why, Path("run"))
    assert said.count("no weights") == 1 and "psnr: infinite" in said
    assert "lpips_vgg_paper and lpips_vgg: no weights" in said
