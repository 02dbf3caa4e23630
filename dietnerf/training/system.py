"""The LightningModule: a field in training.

No formula of NeRF stands here.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor, nn

import dietnerf
from dietnerf.data.camera_set import CameraSet
from dietnerf.errors import UserError
from dietnerf.fields import MLP, AbstractField
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.history import History
from dietnerf.losses import (
    AbstractLoss,
    AbstractRegularizer,
    Photometric,
)
from dietnerf.metrics import psnr
from dietnerf.runs.checkpoint_format import CHECKPOINT_FORMAT, check_format, drop_paths
from dietnerf.sampling import AbstractSampler, Stratified
from dietnerf.scene_model import SceneModel
from dietnerf.schedules import AbstractSchedule
from dietnerf.schedules.base import Progress
from dietnerf.training.adam import SkippingAdam
from dietnerf.training.cuda_graphs import (
    GraphedTrainingStep,
    capacity_for,
    check_graphable,
    spread_if_not_finite,
    with_scaled_gradients,
)
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.distributed import all_gather
from dietnerf.training.eager import EagerRayLosses
from dietnerf.training.exposure import ExposureCorrection
from dietnerf.training.learning_rate import AbstractLearningRate, Exponential, Schedule
from dietnerf.training.objective import Objective, RayLosses
from dietnerf.training.optimizers import Kind, make_optimizer
from dietnerf.training.ray_stats import RayStats
from dietnerf.training.steps import count_as_batches, count_optimizer_step, is_logged
from dietnerf.training.view_dataset import RenderedView, View

RANGE_SECONDS = 0.1  # after which a range ends early, as a viewer or a signal waits for its end


class DietNeRF(pl.LightningModule):
    """A radiance field in training.

    Args:
        field: what is rendered.
        sampler: where along each ray the field is evaluated.
        losses: training losses, at least one of them of rays.
        learning_rate: its schedule.
        schedules: what else changes by the step.
        optimizer: `adam` with torch's defaults, as the paper's authors; `skipping_adam` for hash
            grids, most of whose table has no gradient in a step.
        table_decay: decoupled weight decay (Loshchilov and Hutter 2019) of the field's tables, per
            learning rate: against what few views leave open.
        max_gradient_norm: gradients of all parameters together are scaled down to this norm; None
            leaves them.
        refinement: corrects the training cameras on the way; None takes them for exact.
        exposure: evens out photos that differ in exposure and white balance; None takes their
            colors for exact.
        use_cuda_graphs: on a GPU, capture each step as a CUDA graph and replay it, so that the host
            does not hold it back; numbers of rays then seldom change.
    """

    def __init__(
        self,
        field: AbstractField | None = None,
        sampler: AbstractSampler | None = None,
        losses: list[AbstractLoss] | None = None,
        learning_rate: AbstractLearningRate | None = None,
        schedules: list[AbstractSchedule] | None = None,
        optimizer: Kind = "adam",
        table_decay: float = 0.0,
        max_gradient_norm: float | None = None,
        refinement: CameraRefinement | None = None,
        exposure: ExposureCorrection | None = None,
        use_cuda_graphs: bool = False,
    ) -> None:
        if not table_decay >= 0:
            raise UserError(f"table_decay is {table_decay}; it must be at least 0")
        if max_gradient_norm is not None and not max_gradient_norm > 0:
            raise UserError(
                f"max_gradient_norm is {max_gradient_norm}; it must be positive, or null"
            )
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False  # a batch of Lightning's is a range of steps
        self.field = field or MLP()
        self.sampler = sampler or Stratified()
        self.losses = nn.ModuleList(losses or [Photometric()])
        self.learning_rate = learning_rate or Exponential()
        self.schedules = schedules or []
        self.optimizer = optimizer
        self.table_decay = table_decay
        self.max_gradient_norm = max_gradient_norm
        self.refinement = refinement
        self.exposure = exposure
        self.use_cuda_graphs = use_cuda_graphs
        if not self.objective.ray_losses:
            raise UserError("losses: none of them is of training rays; add Photometric")
        self.camera_set: CameraSet | None = None
        self.history = History(torch.initial_seed())
        self.terms = torch.zeros(0)  # of the losses in the last step, (n_losses,)
        self.ray_stats: RayStats | None = None  # of the last step that was logged
        self._forget()

    def _forget(self) -> None:
        """What belongs to one run of the Trainer."""
        self._data: SceneDataModule | None = None
        self._scalars: dict[str, Any] = {}  # recorded since the last ones were written
        self._eager: EagerRayLosses | None = None
        self._graphed: GraphedTrainingStep | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy, as a moving average keeps one, needs no photographs, and must not reach from them
        # to the Trainer: with several devices that holds their processes.
        return {**super().__getstate__(), "_data": None, "_eager": None, "_graphed": None}

    @property
    def objective(self) -> Objective:
        losses = [loss for loss in self.losses if isinstance(loss, AbstractLoss)]
        return Objective(self.field, self.sampler, losses, self.refinement, self.exposure)

    def setup(self, stage: str) -> None:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(datamodule, SceneDataModule):
            self.prepare(datamodule, self.trainer.strategy.root_device)
        precision: Any = self.trainer.precision_plugin
        if self.use_cuda_graphs and getattr(precision, "scaler", None) is not None:
            # Graphed steps scale their loss; the scaler would read from the GPU in each of them.
            precision.scaler = torch.amp.GradScaler(enabled=False)

    def prepare(self, data: SceneDataModule, device: torch.device) -> None:
        """Fit field and sampler to the training cameras, and load what the losses need, unless that
        is done already.

        Raises:
            UserError: it cannot be done; a box may lie where no camera looks.
        """
        if self._data is data:
            return
        if self.use_cuda_graphs:
            check_graphable(self.objective, self.schedules, data.samples_per_step)
        for schedule in self.schedules:
            schedule.check(self.field)
        self.objective.prepare(data.datasets["train"], data.background, device)
        self.background = data.background
        self.camera_set = data.camera_set()
        data.has_few_sizes = self.use_cuda_graphs
        self._forget()
        self._data = data

    def configure_optimizers(self) -> Any:
        law = self.learning_rate
        grows = self.trainer.datamodule.batch_per_device  # type: ignore[attr-defined]
        initial = law.initial * (self.trainer.world_size if grows else 1)
        optimizer = make_optimizer(self.optimizer, self.objective, initial, self.table_decay)
        scheduler = Schedule(optimizer, lambda step: self._rate(step) / law.initial)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def _rate(self, step: int) -> float:
        return self.history.rate_factor * self.learning_rate(step, self.trainer.max_steps)

    def on_train_start(self) -> None:
        assert self._data is not None, "setup prepares a system for its data"
        source, rank = self._data.ray_source(self.device), self.global_rank
        self._behind = self.background.to(self.device)  # in a step a GPU would be waited for
        if not self.use_cuda_graphs:
            # A loss scale for half precision is applied after chunks are differentiated: too late.
            is_chunked = self.trainer.precision != "16-mixed"
            self._eager = EagerRayLosses(self.objective, source, self.schedules, rank, is_chunked)
            return
        n_devices = 1 if self._data.batch_per_device else self.trainer.world_size
        capacity = capacity_for(self._data.samples_per_step, self.sampler, n_devices)
        update = self._update_in_graph
        self._graphed = GraphedTrainingStep(self.objective, source, capacity, update, rank)

    def training_step(self, steps: range, batch_idx: int) -> None:
        """Train the steps of a range, or the first of them where they take long."""
        started, n_steps = time.perf_counter(), 0
        # A range of graphed steps stays whole: only its last one counts the samples.
        is_timed = self._eager is not None
        for step in steps:
            self.take_step(step, is_last=step == steps[-1])
            n_steps += 1
            if is_timed and time.perf_counter() - started > RANGE_SECONDS:
                break
        count_as_batches(self.trainer, n_steps)

    def take_step(self, step: int, is_last: bool) -> None:
        """One step: draw rays, update the sampler, compute the losses, update the parameters."""
        assert self._data is not None
        progress = Progress(step, self.trainer.max_steps)
        n_rays, fraction = self._data.rays_of(step, self.trainer.world_size)
        scene_weights = self.objective.scene_weights(step, progress.n_steps)
        in_graph = self._graphed is not None and not scene_weights and self._can_update_in_graph
        logged = is_logged(self.trainer, step + 1)
        if self._eager is not None:
            rays = self._eager(progress, n_rays, fraction, logged)
        else:
            rays = self._graphed_losses(progress, n_rays, fraction, in_graph, is_last)
        scene = self.objective.of_scene(step, scene_weights, self._behind, self.global_rank)
        if in_graph:
            count_optimizer_step(self.trainer)
        else:
            self._note_terms(rays.terms, scene)
            self._update(rays.loss, list(scene.values()))
        self._end_step(step)
        if rays.n_samples is not None:
            self._data.adapt(n_rays, rays.n_samples)
        if logged:
            self._log_step(step, rays, scene, n_rays)

    def _graphed_losses(
        self, progress: Progress, n_rays: int, fraction: float, updates: bool, is_last: bool
    ) -> RayLosses:
        """As a CUDA graph, of which a GPU is waited for in the last step of a range only."""
        assert self._graphed is not None
        optimizer = self.trainer.optimizers[0]
        if updates and self.device.type == "cuda":  # else `_update_in_graph` does it
            assert isinstance(optimizer, SkippingAdam)
            optimizer.count(list(self.objective.parameters()), has_gradients=True)
        return self._graphed(progress, n_rays, fraction, updates, reads=is_last or not updates)

    def _note_terms(self, of_rays: Tensor, scene: dict[AbstractRegularizer, Tensor]) -> None:
        none = of_rays.new_zeros(())
        of_scene = [scene.get(loss, none).detach()[None] for loss in self.objective.regularizers]
        self.terms = torch.cat([of_rays, *of_scene])

    def _update(self, loss: Tensor, scene_terms: list[Tensor]) -> None:
        """Backward pass and optimizer."""
        if scene_terms:
            of_scene = torch.stack(scene_terms).sum()
            if self.use_cuda_graphs:
                of_scene = with_scaled_gradients(of_scene, list(self.objective.parameters()))
            loss = loss + of_scene
        optimizer: Any = self.optimizers()
        with torch.autocast(self.device.type, enabled=False):
            optimizer.zero_grad()
            self.manual_backward(spread_if_not_finite(loss))
            optimizer.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.max_gradient_norm)

    @property
    def _can_update_in_graph(self) -> bool:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return (
            isinstance(self.trainer.optimizers[0], SkippingAdam)
            and self.trainer.world_size == 1
            and self.max_gradient_norm is None
            and (scaler is None or not scaler.is_enabled())
        )

    def _update_in_graph(self, gradients: Sequence[Tensor], terms: Tensor) -> None:
        """The optimizer's part of a CUDA graph."""
        optimizer = self.trainer.optimizers[0]
        for parameter, gradient in zip(self.objective.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._note_terms(terms, {})
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_before_optimizer_step(self.trainer, self, optimizer)
        assert isinstance(optimizer, SkippingAdam)
        if self.device.type == "cuda":
            optimizer.move()
        else:
            optimizer.step()

    def _end_step(self, step: int) -> None:
        schedule: Any = self.lr_schedulers()
        schedule.step()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # which otherwise sees the last of a range
                callback.on_train_batch_end(self.trainer, self, None, step, step)

    def _log_step(
        self, step: int, rays: RayLosses, scene: dict[AbstractRegularizer, Tensor], n_rays: int
    ) -> None:
        assert rays.stats is not None
        self.ray_stats = rays.stats
        scalars = {"learning_rate": self._rate(step)} | self.objective.scalars(rays, scene, n_rays)
        self.record({f"train/{name}": value for name, value in scalars.items()})
        self.record({"train/psnr": -10 * rays.stats.mse().log10()}, prog_bar=True)

    def record(self, scalars: dict[str, Any], prog_bar: bool = False) -> None:
        """Log scalars for callbacks and the progress bar, and for loggers at the number of steps
        taken; in training Lightning alone would count ranges of steps."""
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

    @property
    def scene(self) -> SceneModel:
        """What is rendered, of the same modules."""
        scene = SceneModel(self.field, self.sampler, self.refinement)
        scene.camera_set = self.camera_set
        return scene

    def _render_view(self, view: View) -> RenderedView:
        return RenderedView(view, self.scene.render_rays_of(view.cameras, 0, view.background))

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["dietnerf"] = {
            "format": CHECKPOINT_FORMAT,
            "version": dietnerf.__version__,
            "camera_set": None if self.camera_set is None else self.camera_set.to_dict(),
            "history": asdict(self.history),
        }

        # Options are read by what they are for, never by a loader that a file names.
        checkpoint["hyper_parameters"].pop("_instantiator", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_format(checkpoint, "this checkpoint")
        saved = checkpoint["dietnerf"]
        self.camera_set = CameraSet.from_dict(saved["camera_set"])
        self.history = History.from_dict(saved["history"])
        drop_paths(checkpoint)
