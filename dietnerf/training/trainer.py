"""Lightning's Trainer with one subcommand more, and the defaults of its options."""

from pathlib import Path

import pytorch_lightning as pl

from dietnerf.capture_report import report_capture
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.system import DietNeRF

TRAINER_DEFAULTS = {
    "devices": 1,
    "max_epochs": -1,  # the length of a run is max_steps
    "max_steps": 10_000,
    "val_check_interval": 1000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # views are split so that none counts twice
}


class Trainer(pl.Trainer):
    """Lightning's, with one subcommand more."""

    def report(
        self,
        model: DietNeRF,
        datamodule: SceneDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Print what the training views cover, and draw their cameras, without training.

        The last two arguments are unused: the config of a run names them.
        """
        dataset = datamodule.datasets["train"]
        picture = Path(self.default_root_dir) / "capture.png"
        has_depths = dataset.depths is not None
        report_capture(dataset.cameras, dataset.names, picture, dataset.is_cut_out, has_depths)
