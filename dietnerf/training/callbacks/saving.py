"""How the files of a run are written, so that it can be resumed whenever it ends."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from dietnerf.files import replace_file, write_file
from dietnerf.runs.checkpoints import BEST, read_checkpoint


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint to a temporary name, syncs it, and renames it."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        content = io.BytesIO()  # torch.save hides what the disk says
        torch.save(checkpoint, content)
        write_file(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The content of a checkpoint, checked; never anything but weights and plain values."""
        content = read_checkpoint(Path(path))
        content["pytorch-lightning_version"] = pl.__version__  # so that nothing is migrated
        return content

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a file; Lightning's would remove folders, also on remote file systems."""
        with suppress(OSError):
            Path(path).unlink(missing_ok=True)


class SaveConfig(SaveConfigCallback):
    """Writes the config of a run atomically, as resuming depends on it."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        with replace_file(Path(trainer.default_root_dir) / self.config_filename) as part:
            self.parser.save(self.config, part, skip_none=False, overwrite=True, multifile=False)

    def restore_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write it again if it was deleted."""
        if not (Path(trainer.default_root_dir) / self.config_filename).exists():
            self.save_config(trainer, pl_module, "fit")


class EventFiles(TensorBoardLogger):
    """Lightning's, without `hparams.yaml`, a duplicate of `config.yaml`."""

    def save(self) -> None:
        self.experiment.flush()


class Checkpoints(ModelCheckpoint):
    """Lightning's, with a last checkpoint of the very last step; it also saves when a signal stops
    the run, but not after an error, since a half-finished step cannot be resumed from.

    Args:
        folder: of the files.
        interval: steps between those that are kept.
    """

    def __init__(self, folder: Path, interval: int) -> None:
        super().__init__(
            folder,
            "{step:06d}",
            auto_insert_metric_name=False,
            save_top_k=-1,
            save_last=True,
            every_n_train_steps=interval,
            enable_version_counter=False,
        )
        self.interval = interval

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores nothing: names of files follow from the step."""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        if trainer.global_step % self.interval == 0:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
            self._save_last(trainer, is_new=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_last(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, SIGTERMException):
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer, is_new: bool = False) -> None:
        if is_new or self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best validation PSNR, including earlier parts of the run."""

    interval = 0  # saves at validations only

    def __init__(self, folder: Path) -> None:
        name = Path(BEST).stem
        super().__init__(folder, name, "val/psnr", mode="max", enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score, path = state_dict.get("best_model_score"), Path(str(self.dirpath)) / BEST
        if isinstance(score, Tensor) and score.numel() == 1 and path.is_file():
            self.best_model_score = self.kth_value = score
            self.best_model_path = self.kth_best_model_path = str(path)
            self.best_k_models = {str(path): score}
