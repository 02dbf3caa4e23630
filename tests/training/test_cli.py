import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dietnerf.training import cli
from dietnerf.training.system import CHECKPOINT_FORMAT
from tests.helpers import SMALL_RUN, fit, weights


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one sentence that a command ends with instead of doing anything."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(args))
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_a_run_holds_what_a_user_needs(finished_run: Path):
    names = {path.name for path in (finished_run / "checkpoints").iterdir()}
    assert names == {"000004.ckpt", "000008.ckpt", "000012.ckpt", "best.ckpt", "last.ckpt"}
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    assert config["data"]["rays_per_step"] == 64, "the command line beats the file"
    assert config["seed_everything"] == 0


def test_tensorboard_shows_losses_pictures_and_hyper_parameters(finished_run: Path):
    events = EventAccumulator(str(finished_run)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        "train/loss", "train/photometric", "train/psnr", "train/learning_rate",
        "train/rays_per_second", "val/psnr", "final/val/psnr",
    }  # fmt: skip
    assert events.Tags()["images"] == ["val/photograph_rendering_depth_opacity"]
    assert "_hparams_/session_start_info" in events.summary_metadata


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
    fit(run, "--ckpt_path", "last")
    expected = weights(finished_run / "checkpoints/last.ckpt")
    found = weights(run / "checkpoints/last.ckpt")
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_training_improves(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.max_steps", "150", "--trainer.val_check_interval", "50")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    psnrs = [event.value for event in events.Scalars("val/psnr")]
    # An all-white picture scores about 9; 150 steps of a small net reach about 17.
    assert psnrs[-1] > psnrs[0] + 1 and psnrs[-1] > 14


def test_test_writes_metrics_that_say_where_they_come_from(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    cli.main(["test", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    found = json.loads((run / "metrics.json").read_text())
    assert found["train_view_ids"] == list(range(8)) and found["steps"] == 12 and found["seed"] == 0
    assert found["protocol"] == "Procedural, 3 test views at 16x16 on white"
    assert found["train_seconds"] > 0 and found["versions"]["torch"] == torch.__version__
    per_view = [view["psnr"] for view in found["per_view"]]
    assert len(per_view) == 3 == len(list((run / "test").glob("*.png")))
    assert found["mean"]["psnr"] == pytest.approx(sum(per_view) / 3)
    for name in ("lpips_vgg", "lpips_vgg_paper"):
        assert (found["mean"][name] is None) == (name in found["unavailable"])


def test_predict_writes_a_picture_for_each_test_camera(finished_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    cli.main(["predict", "--run", str(run), "--trainer.enable_progress_bar", "false"])
    assert len(list((run / "predict").glob("*.png"))) == 3


def test_validate_scores_a_finished_run(finished_run: Path, capsys):
    run = ["--run", str(finished_run), "--trainer.enable_progress_bar", "false"]
    cli.main(["validate", *run])
    assert "val/psnr" in capsys.readouterr().out


def test_gradient_clipping_limits_the_whole_gradient(tmp_path: Path):
    """A clip to almost nothing leaves Adam's moments almost empty, chunks or not."""
    fit(tmp_path / "run", "--trainer.gradient_clip_val", "1e-6", "--data.rays_per_step", "512")
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    moments = [state["exp_avg"] for state in saved["optimizer_states"][0]["state"].values()]
    assert 0 < sum(m.square().sum() for m in moments).sqrt() <= 1e-6


def test_half_precision(tmp_path: Path):
    fit(tmp_path / "run", "--trainer.precision", "bf16-mixed")
    found = weights(tmp_path / "run/checkpoints/last.ckpt")
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in found.values())


def test_print_config_shows_the_overlaid_values(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["fit", "--config", "nerf", "--config", "cpu", "--print_config"])
    assert ended.value.code in (0, None)
    config = yaml.safe_load(capsys.readouterr().out)
    reader = config["data"]["reader"]["init_args"]
    assert reader["downscale"] == 8 and reader["root"] == "nerf_synthetic/lego"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--config", "nowhere.yaml"], "there is no config nowhere.yaml"),
        (["--config", "quickstart", "--trainer.max_steps", "0"], "trainer.max_steps is 0"),
        (["--config", "quickstart", "--data.views.init_args.n", "0"], "must be at least 1"),
        (["--config", "quickstart", "--data.views.init_args.n", "99"], "there are 8"),
        (["--config", "quickstart", "--data.rays_per_step", "many"], "data.rays_per_step"),
        (["--config", "quickstart", "--model.feild", "x"], "--model.feild"),
        (["--config", "quickstart", "--model.field.class_path", "Nope"], "Nope"),
        (["--config", "quickstart", "--ckpt_path", "last"], "there is no checkpoint at"),
        (["--config", "nerf", "--data.reader.init_args.root", "/nowhere"], "/nowhere"),
        (["--config", "nerf", "--data.reader.init_args.near", "9"], "near 9.0 and far 6.0"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(options, sentence, tmp_path: Path, capsys):
    run = tmp_path / "run"
    assert sentence in refused(capsys, "fit", "--run", str(run), *options)
    assert not run.exists()


def test_a_second_fit_does_not_write_over_the_first(finished_run: Path, capsys):
    before = (finished_run / "checkpoints/last.ckpt").read_bytes()
    message = refused(capsys, "fit", *SMALL_RUN, "--run", str(finished_run))
    assert "holds a run already" in message
    assert (finished_run / "checkpoints/last.ckpt").read_bytes() == before


def test_unknown_run(capsys, tmp_path: Path):
    assert "there is no run at" in refused(capsys, "test", "--run", str(tmp_path / "typo"))


def checkpoint_like(finished_run: Path, path: Path, **changes) -> None:
    saved = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    saved["dietnerf"] |= changes
    torch.save(saved, path)


def test_broken_checkpoints_are_named(finished_run: Path, tmp_path: Path, capsys):
    torn, foreign, newer = (tmp_path / name for name in ("torn.ckpt", "foreign.ckpt", "newer.ckpt"))
    torn.write_bytes((finished_run / "checkpoints/last.ckpt").read_bytes()[:1000])
    torch.save({"state_dict": {}}, foreign)
    checkpoint_like(finished_run, newer, format=CHECKPOINT_FORMAT + 1, version="9.0")
    sentences = {
        torn: "is not a readable checkpoint",
        foreign: "was not written by dietnerf",
        newer: "was written by dietnerf 9.0",
    }
    for path, sentence in sentences.items():
        message = refused(capsys, "test", "--run", str(finished_run), "--ckpt_path", str(path))
        assert str(path) in message and sentence in message
