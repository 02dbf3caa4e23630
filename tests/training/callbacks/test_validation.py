"""What loggers are given."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from pytorch_lightning.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dietnerf.training import cli
from tests.helpers import fit, refused


def test_tensorboard_shows_losses_pictures_and_hyper_parameters(finished_run: Path):
    events = EventAccumulator(str(finished_run)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= {
        "train/loss", "train/photometric", "train/psnr", "train/learning_rate",
        "train/rays_per_second", "train/samples_per_ray", "train/occupied", "val/psnr",
        "final/val/psnr",
    }  # fmt: skip
    assert events.Tags()["images"] == ["val/photograph_rendering_depth_opacity"]
    weights = events.Histograms("val/weights_along_rays")[-1].histogram_value
    assert weights.num > 0 and 1e-3 < weights.min <= weights.max <= 1
    start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    table = HParamsPluginData.FromString(start).session_start_info.hparams
    assert table["reader"].string_value == "Procedural" and table["n_views"].number_value == 16
    assert table["sampler/init_args/resolution"].number_value > 0


class Album(Logger):
    """A logger that is not TensorBoard's and takes pictures, as that of Weights & Biases."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.chosen = {}, {}

    name, version = "album", 0

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures[key] = images

    def log_hyperparams(self, params: dict, *args: object) -> None:
        self.chosen |= params

    def log_metrics(self, metrics: dict, step: int | None = None) -> None:
        pass


def test_another_logger_gets_pictures_and_hyper_parameters(tmp_path: Path, monkeypatch):
    album = Album()
    monkeypatch.setattr(cli, "EventFiles", lambda *args, **options: album)
    fit(tmp_path / "run")
    ((comparison,),) = [album.pictures["val/photograph_rendering_depth_opacity"]]
    assert comparison.shape == (16, 64, 3) and comparison.dtype == "uint8"
    assert album.chosen["n_views"] == 16


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_whose_package_is_missing_is_one_sentence(tmp_path: Path, capsys):
    options = ["--config", "quickstart", "--trainer.logger", "WandbLogger"]
    message = refused(capsys, cli.main, "fit", *options, "--run", str(tmp_path / "run"))
    assert "needs a package: Requirement 'wandb" in message
    assert not (tmp_path / "run").exists()
