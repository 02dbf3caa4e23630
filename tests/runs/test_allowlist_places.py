"""Where a config of a run may let files be written: inside the run."""

import shutil
from pathlib import Path

import pytest
import yaml

from dietnerf.errors import UserError
from dietnerf.training import cli
from dietnerf.training.allowed_classes import ALLOWLIST
from tests.helpers import refused
from tests.runs.untrusted import logger

PLACES = {
    "a logger's folder": logger("CSVLogger", save_dir="OUT", name="x"),
    "a logger's folder above": logger("CSVLogger", save_dir="RUN/../out"),
    "a logger's name": logger("CSVLogger", name="../../out"),
    "a logger's version": logger("CSVLogger", version="../../out"),
    "a board's folder below": logger(sub_dir="../../out"),
}
PROFILERS = {
    "a profiler's folder": {"dirpath": "OUT", "filename": "authorized_keys"},
    "a profiler's file": {"dirpath": "RUN", "filename": "../out"},
}
KEEPERS = {
    "a keeper's folder": {"dirpath": "OUT", "every_n_train_steps": 1},
    "a keeper's file": {"filename": "../../../out", "every_n_train_steps": 1},
}


@pytest.mark.parametrize("case", [*PLACES, *PROFILERS, *KEEPERS])
def test_no_config_of_a_run_writes_somewhere_else(
    case: str, finished_run: Path, tmp_path: Path, capsys, monkeypatch
):
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    if case in PLACES:
        config["trainer"]["logger"] = PLACES[case]
    elif case in PROFILERS:
        config["trainer"]["profiler"] = {
            "class_path": "SimpleProfiler",
            "init_args": PROFILERS[case],
        }
    else:
        keeper = {"class_path": "ModelCheckpoint", "init_args": KEEPERS[case]}
        config["trainer"]["callbacks"] = [keeper]
    text = yaml.safe_dump(config).replace("OUT", str(out)).replace("RUN", str(run))
    (run / "config.yaml").write_text(text)
    said = refused(capsys, cli.main, "fit", "--run", str(run), "--ckpt_path", "last")
    assert "which is not in the folder of the run" in said
    assert not out.exists()
    options = ["--config", str(run / "config.yaml"), "--run", str(tmp_path / "new")]
    assert "which is not in the folder" in refused(capsys, cli.main, "fit", *options)
    assert not out.exists()


def test_what_a_run_logged_inside_itself_goes_on(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["logger"] = logger("CSVLogger", save_dir=str(run / "logs"), name="x")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    cli.main(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.max_steps", "14"])
    assert (run / "logs" / "x").is_dir()


def test_a_link_deep_in_a_run_is_not_written_to(finished_run: Path, tmp_path: Path, capsys):
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished_run, run)
    outside.mkdir()
    (run / "logs/x").mkdir(parents=True)
    (run / "logs/x/version_0").symlink_to(outside)
    said = refused(capsys, cli.main, "fit", "--run", run, "--ckpt_path", "last")
    assert f"{run / 'logs/x/version_0'} is a link to {outside}" in said


@pytest.mark.parametrize("place", ["hparams.yaml", "test", "checkpoints", "checkpoints/x.ckpt"])
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_link_out_of_a_run_is_not_written_to(
    place: str, is_broken: bool, finished_run: Path, tmp_path: Path, capsys
):
    run, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(finished_run, run)
    if place == "checkpoints":
        (run / place).rename(outside)
    elif not is_broken:
        outside.mkdir()
    (run / place).unlink(missing_ok=True)
    (run / place).symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    for command in ("test", "validate", "predict", "report"):
        said = refused(capsys, cli.main, command, "--run", str(run))
        assert f"{run / place} is a link to" in said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["{step:0999999999d}", "{step.real}", "{step:zzz}", "{a[b]}", "{"])
def test_a_name_to_be_filled_in_holds_names_alone(name: str, tmp_path: Path):
    keeper = {"class_path": "ModelCheckpoint", "init_args": {"filename": name}}
    with pytest.raises(UserError, match="filename of ModelCheckpoint"):
        ALLOWLIST.check_config({"trainer": {"callbacks": [keeper]}}, tmp_path / "a.yaml", tmp_path)


def test_a_name_to_be_filled_in_with_what_is_logged(tmp_path: Path):
    for name in ("{step:06d}-{epoch:.2f}", "{epoch}", "plain", None):
        keeper = {"class_path": "ModelCheckpoint", "init_args": {"filename": name}}
        ALLOWLIST.check_config({"trainer": {"callbacks": [keeper]}}, tmp_path / "a.yaml", tmp_path)
