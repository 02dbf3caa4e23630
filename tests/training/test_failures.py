"""Mistakes in options, runs and checkpoints are one sentence, and leave nothing behind."""

from pathlib import Path

import pytest
import torch

from dietnerf.runs.checkpoint_format import CHECKPOINT_FORMAT
from dietnerf.training import cli
from tests.helpers import SMALL_RUN, refused


def test_broken_config_is_named(tmp_path: Path, capsys):
    config = tmp_path / "broken.yaml"
    for content in (b"data: [", b"\xff\xfe", b"- 1"):
        config.write_bytes(content)
        assert str(config) in refused(capsys, cli.main, "fit", "--config", str(config))


def test_run_that_is_a_file(tmp_path: Path, capsys):
    (tmp_path / "run").write_text("")
    message = refused(
        capsys, cli.main, "fit", "--config", "quickstart", "--run", str(tmp_path / "run")
    )
    assert "is a file; name a folder" in message


FIELD = ["--config", "quickstart", "--data.reader.init_args.resolution", "16"]
FAR_BOX = "[50, 50, 50, 51, 51, 51]"
MISSPELT = "[{class_path: dietnerf.losses.Distortion, init_args: {wieght: 1}}]"
HUGE = [
    *(*FIELD, "--model.field.init_args.log2_table_size", "30"),
    *("--model.field.init_args.n_levels", "64"),
    *("--model.field.init_args.finest_resolution", str(1 << 20)),
]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--config", "nowhere.yaml"], "there is no config nowhere.yaml"),
        (["--config", "missing/nerf.yaml"], "there is no config missing/nerf.yaml"),
        (["--config", "quickstart", "--trainer.max_steps", "0"], "trainer.max_steps is 0"),
        (["--config", "quickstart", "--save_every", "0"], "save_every is 0"),
        (["--config", "quickstart", "--model.table_decay", "-1"], "table_decay is -1"),
        (["--config", "quickstart", "--trainer.precision", "bf16-true"], "trainer.precision is"),
        (["--config", "quickstart", "--trainer.accelerator", "gpu"], "gpu"),
        (["--config", "quickstart", "--data.samples_per_step", "0"], "samples_per_step is 0"),
        ([*FIELD, "--model.field.init_args.log2_table_size", "40"], "must be 3 to 30, got 40"),
        ([*HUGE, "--model.field.init_args.n_features", "8"], "choose a smaller log2_table_size"),
        ([*FIELD, "--model.field.init_args.bounds", FAR_BOX], "field.bounds: no training camera"),
        ([*FIELD, "--model.sampler.init_args.bounds", FAR_BOX], "sampler.bounds: no training"),
        (["--config", "nerf", "--model.sampler.init_args.n_fine", "0"], "n_fine"),
        (["--config", "nerf", "--model.field.init_args.depth", "0"], "depth must be 1"),
        (["--config", "quickstart", "--model.learning_rate.init_args.initial", "0"], "positive"),
        (["--config", "quickstart", "--data.views.init_args.n", "0"], "must be at least 1"),
        (["--config", "quickstart", "--data.views.init_args.n", "99"], "there are 16"),
        (["--config", "quickstart", "--data.rays_per_step", "many"], "data.rays_per_step"),
        (["--config", "quickstart", "--model.feild", "x"], "--model.feild"),
        (["--config", "quickstart", "--model.field.class_path", "Nope"], "Nope"),
        ([*FIELD, "--model.losses", MISSPELT], "\"model.losses\": Option 'wieght' is not accepted"),
        (["--config", "quickstart", "--ckpt_path", "last"], "there is no checkpoint at"),
        (["--config", "nerf", "--data.reader.init_args.root", "/nowhere"], "/nowhere"),
        (["--config", "nerf", "--data.reader.init_args.near", "9"], "near 9 and far 6"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(options, sentence, tmp_path: Path, capsys):
    run = tmp_path / "run"
    assert sentence in refused(capsys, cli.main, "fit", "--run", str(run), *options)
    assert not run.exists()


def test_a_second_fit_does_not_write_over_the_first(finished_run: Path, capsys):
    before = (finished_run / "checkpoints/last.ckpt").read_bytes()
    message = refused(capsys, cli.main, "fit", *SMALL_RUN, "--run", str(finished_run))
    assert "holds a run already" in message
    assert (finished_run / "checkpoints/last.ckpt").read_bytes() == before


def test_unknown_run(capsys, tmp_path: Path):
    assert "there is no run at" in refused(
        capsys, cli.main, "test", "--run", str(tmp_path / "typo")
    )


def checkpoint_like(finished_run: Path, path: Path, **changes) -> None:
    saved = torch.load(finished_run / "checkpoints/last.ckpt", weights_only=True)
    saved["dietnerf"] |= changes
    torch.save(saved, path)


def test_broken_checkpoints_are_named(finished_run: Path, tmp_path: Path, capsys):
    torn, foreign, newer, text = (
        tmp_path / f"{n}.ckpt" for n in ("torn", "foreign", "newer", "text")
    )
    torn.write_bytes((finished_run / "checkpoints/last.ckpt").read_bytes()[:1000])
    torch.save({"state_dict": {}}, foreign)
    text.write_text("101 not a checkpoint")
    checkpoint_like(finished_run, newer, format=CHECKPOINT_FORMAT + 1, version="9.0")
    sentences = {
        torn: "is not a readable checkpoint",
        text: "is not a readable checkpoint",
        foreign: "was not written by dietnerf",
        newer: "was written by dietnerf 9.0",
    }
    for path, sentence in sentences.items():
        message = refused(
            capsys, cli.main, "test", "--run", str(finished_run), "--ckpt_path", str(path)
        )
        assert str(path) in message and sentence in message
