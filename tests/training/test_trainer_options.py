"""Options of Lightning's trainer and of its parts that no run can go by."""

from pathlib import Path

import pytest

from dietnerf.training import cli
from tests.helpers import SMALL_RUN, refused


def part(kind: str, name: str, **options: object) -> list[str]:
    """Options that choose a callback, a logger or a profiler."""
    module = {"callbacks+": "callbacks", "logger": "loggers", "profiler": "profilers"}[kind]
    words = [f"--trainer.{kind}", f"pytorch_lightning.{module}.{name}"]
    for key, value in options.items():
        words += [f"--trainer.{kind.removesuffix('+')}.init_args.{key}", str(value)]
    return words


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trainer.gradient_clip_val", "1"], "not used: set model.max_gradient_norm"),
        (["--model.max_gradient_norm", ".nan"], "max_gradient_norm is nan; it must be positive"),
        (["--model.max_gradient_norm", "-1"], "max_gradient_norm is -1.0; it must be positive"),
        (["--trainer.fast_dev_run", "5"], "try --trainer.max_steps 5 in a folder of its own"),
        (["--trainer.accumulate_grad_batches", "2"], "accumulate_grad_batches is not used"),
        (["--trainer.check_val_every_n_epoch", "0"], "trainer.check_val_every_n_epoch is 0"),
        (part("callbacks+", "EMAWeightAveraging", decay=".nan"), "decay is nan; give a number"),
        (part("callbacks+", "EMAWeightAveraging", device="meta"), "device meta cannot be used"),
        (part("callbacks+", "EMAWeightAveraging", device="x"), "device x cannot be used here"),
        (part("callbacks+", "BackboneFinetuning"), "BackboneFinetuning does not go with a scene"),
        (part("callbacks+", "Timer"), "Timer does not go with a scene: use --minutes"),
        (part("callbacks+", "WeightAveraging"), "set its use_buffers to false"),
        (part("callbacks+", "EarlyStopping"), "required: monitor"),
        (["--trainer.barebones", "true"], "barebones would leave a run without checkpoints"),
        (2 * part("callbacks+", "ModelCheckpoint"), "more than one stateful callback"),
        (part("callbacks+", "EarlyStopping", monitor="val/pnsr"), "EarlyStopping monitors 'val/p"),
        (part("callbacks+", "ModelCheckpoint", monitor="loss"), "ModelCheckpoint monitors 'loss'"),
    ],
)
def test_what_no_run_can_do_is_said_before_it_begins(options, sentence, tmp_path: Path, capsys):
    run = tmp_path / "run"
    assert sentence in refused(capsys, cli.main, "fit", *SMALL_RUN, "--run", run, *options)
    assert not run.exists()


@pytest.mark.parametrize(
    "options",
    [
        part("logger", "CSVLogger", save_dir="RUN", flush_logs_every_n_steps=0),
        part("callbacks+", "EarlyStopping", monitor="train/pnsr"),
        part("callbacks+", "EMAWeightAveraging", update_every_n_steps=0),
        part("callbacks+", "TQDMProgressBar", refresh_rate=-1),
        part("callbacks+", "LearningRateMonitor", logging_interval="never"),
        part("callbacks+", "Timer", duration="00:00"),
        part("callbacks+", "Timer", duration="00:00:00:00", interval="never"),
        part("profiler", "AdvancedProfiler", line_count_restriction=-3.5),
        part("callbacks+", "ModelCheckpoint", every_n_train_steps=-1),
        part("callbacks+", "ModelCheckpoint", save_top_k=-7),
        ["--trainer.val_check_interval", "-1"],
        ["--trainer.limit_val_batches", "-1"],
        ["--trainer.limit_train_batches", ".nan"],
        ["--trainer.num_sanity_val_steps", "-9"],
        ["--trainer.max_time", "never"],
        ["--trainer.reload_dataloaders_every_n_epochs", "-1"],
        ["--trainer.overfit_batches", "-3"],
        ["--trainer.check_val_every_n_epoch", "-1"],
        ["--trainer.profiler", "nobody"],
        ["--trainer.gradient_clip_algorithm", "other"],
        ["--trainer.gradient_clip_val", "1", "--trainer.gradient_clip_algorithm", "other"],
    ],
    ids=lambda options: "-".join(options[1::2])[-60:],
)
def test_an_odd_option_is_one_sentence_or_does_no_harm(options, tmp_path: Path, capsys):
    options = [option.replace("RUN", str(tmp_path / "run")) for option in options]
    code = 0
    try:
        cli.main(["fit", *SMALL_RUN, "--run", str(tmp_path / "run"), *options])
    except SystemExit as ended:
        code = ended.code
    last = capsys.readouterr().err.strip().splitlines()[-1:]
    assert code == 0 or (code == 2 and last[0].startswith("error: "))
