"""A scene for Lightning: how views are evaluated, scalars logged and checkpoints written.

Nothing of training is here, and no formula of NeRF.
"""

from abc import ABC
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from dietnerf.data.camera_set import CameraSet
from dietnerf.fields import AbstractRadianceField
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.history import History
from dietnerf.metrics import psnr
from dietnerf.runs.checkpoint_format import check_format, drop_paths, read_facts, scene_facts
from dietnerf.sampling import AbstractSampler
from dietnerf.scene_model import SceneModel
from dietnerf.training.distributed import all_gather
from dietnerf.training.view_dataset import RenderedView, View


class AbstractSceneModule(pl.LightningModule, ABC):
    """Renders whole views for `validate`, `test` and `predict`.

    Scalars reach loggers at the number of optimization steps; Lightning alone would count its
    batches, which are ranges of steps.
    """

    field: AbstractRadianceField
    sampler: AbstractSampler
    refinement: CameraRefinement | None

    def __init__(self) -> None:
        super().__init__()
        self.camera_set: CameraSet | None = None
        self.history = History(torch.initial_seed())
        self._scalars: dict[str, Any] = {}  # recorded since the last ones were written

    @property
    def scene(self) -> SceneModel:
        """What is rendered, of the same modules."""
        scene = SceneModel(self.field, self.sampler, self.refinement)
        scene.camera_set = self.camera_set
        return scene

    def _render_view(self, view: View) -> RenderedView:
        background = view.background
        if background is None:  # the photograph says nothing of it
            background = torch.ones(3) if self.camera_set is None else self.camera_set.background
        return RenderedView(view, self.scene.render_rays_of(view.cameras, 0, background))

    def on_validation_epoch_start(self) -> None:
        self._scores: list[Tensor] = []

    def validation_step(self, view: View, batch_idx: int) -> RenderedView:
        rendered = self._render_view(view)
        self._scores.append(psnr(rendered.rgb, view.image, view.mask).cpu())
        return rendered

    def on_validation_epoch_end(self) -> None:
        n_views = len(self.trainer.datamodule.datasets["val"])  # type: ignore[attr-defined]
        scores = all_gather(self._scores)[:n_views]  # not of processes that had none of their own
        self.record({"val/psnr": torch.stack(scores).mean()}, prog_bar=True)
        self._write_scalars()

    def test_step(self, view: View, batch_idx: int) -> RenderedView:
        return self._render_view(view)

    def predict_step(self, view: View, batch_idx: int) -> RenderedView:
        return self._render_view(view)

    def record(self, scalars: dict[str, Any], prog_bar: bool = False) -> None:
        """Log scalars for callbacks and the progress bar, and in training for loggers once the
        range of steps has ended."""
        is_training = self.trainer.state.fn == "fit"
        self.log_dict(scalars, prog_bar=prog_bar, logger=not is_training, batch_size=1)
        if is_training:
            self._scalars |= scalars

    def on_train_batch_end(self, outputs: Any, batch: range, batch_idx: int) -> None:
        self._write_scalars()

    def _write_scalars(self) -> None:
        """Hand what was recorded to the loggers at once: a row of a table."""
        scalars, self._scalars = self._scalars, {}
        for logger in self.loggers if scalars else []:
            logger.log_metrics({n: float(x) for n, x in scalars.items()}, self.global_step)
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["dietnerf"] = scene_facts(self.camera_set, self.history)
        # Options are read by what they are for, never by a loader that a file names.
        checkpoint["hyper_parameters"].pop("_instantiator", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_format(checkpoint, "this checkpoint")
        self.camera_set, self.history = read_facts(checkpoint)
        drop_paths(checkpoint)
