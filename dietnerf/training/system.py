"""The LightningModule: a field in training. No formula of NeRF is here."""

import time
from typing import Any

import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from dietnerf.errors import UserError
from dietnerf.fields import MLP, AbstractRadianceField
from dietnerf.fields.base import queried
from dietnerf.gaussians import Gaussians
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.losses import AbsoluteError, AbstractLoss, AbstractRayLoss, Photometric
from dietnerf.sampling import AbstractSampler, Stratified
from dietnerf.schedules import AbstractSchedule
from dietnerf.training import gaussian_start
from dietnerf.training.cuda_graphs import check_graphable
from dietnerf.training.datamodule import SceneDataModule
from dietnerf.training.exposure import ExposureCorrection
from dietnerf.training.learning_rate import AbstractLearningRate, Exponential, Schedule
from dietnerf.training.objective import Objective
from dietnerf.training.optimizers import Kind, make_optimizer
from dietnerf.training.ray_stats import RayStats
from dietnerf.training.scene_module import AbstractSceneModule
from dietnerf.training.steps import count_as_batches, is_logged
from dietnerf.training.training_step import StepOutput, TrainingStep, Updates

RANGE_SECONDS = 0.1  # after which a range ends early, as a viewer or a signal waits for its end


class DietNeRF(AbstractSceneModule):
    """A radiance field in training.

    Args:
        field: what is rendered.
        sampler: where along each ray the field is evaluated.
        losses: training losses, at least one of them of rays.
        learning_rate: its schedule.
        schedules: other quantities that depend on the step.
        optimizer: `adam` with torch's defaults, as the paper's authors; `skipping_adam` for hash
            grids, most of whose table has no gradient in a step.
        table_decay: decoupled weight decay (Loshchilov and Hutter 2019) of the field's tables, per
            learning rate: removes density that few views leave undetermined.
        max_gradient_norm: gradients of all parameters together are scaled down to this norm; None
            leaves them.
        refinement: corrects the training cameras during training; None takes them as exact.
        exposure: corrects photos that differ in exposure and white balance; None takes their colors
            as exact.
        use_cuda_graphs: on a GPU, capture each step as a CUDA graph and replay it, so that the host
            does not hold it back; numbers of rays then seldom change.
    """

    def __init__(
        self,
        field: AbstractRadianceField | None = None,
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
        parts = [loss for loss in self.losses if isinstance(loss, AbstractLoss)]
        self.objective = Objective(self.field, self.sampler, parts, refinement, exposure)
        if not any(_compares_colors(loss) for loss in self.objective.ray_losses):
            raise UserError(
                "losses: none of them compares colors with the photos; add Photometric. A config "
                "that adds to losses (losses+) goes over one that lists them, as photos.yaml"
            )
        self.ray_stats: RayStats | None = None  # of the last step that was logged
        self._forget()

    def _forget(self) -> None:
        """What belongs to one run of the Trainer."""
        self._data: SceneDataModule | None = None
        self._scalars = {}
        self._step: TrainingStep | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy, as a moving average keeps one, needs no photographs, and must not reach from them
        # to the Trainer: with several devices that holds their processes.
        return {**super().__getstate__(), "_data": None, "_step": None}

    def setup(self, stage: str) -> None:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(datamodule, SceneDataModule):
            is_resumed = self.trainer.ckpt_path is not None
            self.prepare(datamodule, self.trainer.strategy.root_device, is_resumed)
            self._check_averages()
        if self.use_cuda_graphs and self._scaler() is not None:
            precision: Any = self.trainer.precision_plugin
            # Graphed steps scale their loss; the scaler would read from the GPU in each of them.
            precision.scaler = torch.amp.GradScaler(enabled=False)

    def _scaler(self) -> Any:
        """What scales the loss in half precision, or None."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _check_averages(self) -> None:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        averages = [c for c in callbacks if isinstance(c, WeightAveraging)]
        if averages and isinstance(self.field, Gaussians):
            raise UserError(
                f"{type(averages[0]).__name__} would average Gaussians that were moved in between: "
                "leave it out"
            )

    def prepare(
        self, data: SceneDataModule, device: torch.device, is_resumed: bool = False
    ) -> None:
        """Fit field and sampler to the training cameras, and load what the losses need, unless that
        is done already.

        Args:
            data: the capture.
            device: where it is trained.
            is_resumed: a checkpoint is loaded next, so that Gaussians need no start.

        Raises:
            UserError: parts are incompatible, or no camera sees the box.
        """
        if self._data is data:
            return
        if self.use_cuda_graphs:
            check_graphable(self.objective, self.schedules, data.samples_per_step)
        for schedule in self.schedules:
            schedule.check(queried(self.field, f"the schedule {type(schedule).__name__}"))
        train = data.datasets["train"]
        self.objective.prepare(train, data.background, device)
        if isinstance(self.field, Gaussians) and not is_resumed:
            gaussian_start.start(self.field, train, data.background, _say)
        self.background = data.background
        self.camera_set = data.camera_set()
        data.has_few_sizes = self.use_cuda_graphs
        self._forget()
        self._data = data

    def configure_optimizers(self) -> Any:
        law = self.learning_rate
        grows = self.trainer.datamodule.batch_per_device  # type: ignore[attr-defined]
        initial = law.initial * (self.trainer.world_size if grows else 1)
        fused = self.device.type in ("cpu", "cuda") and self._scaler() is None
        optimizer = make_optimizer(self.optimizer, self.objective, initial, self.table_decay, fused)
        scheduler = Schedule(optimizer, lambda step: self._rate(step) / law.initial)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def _rate(self, step: int) -> float:
        return self.history.rate_factor * self.learning_rate(step, self.trainer.max_steps)

    def on_train_start(self) -> None:
        assert self._data is not None, "setup prepares a system for its data"
        is_clipped, hooks = self.max_gradient_norm is not None, self._call_before_step
        updates = Updates(self.optimizers(), self.manual_backward, hooks, is_clipped)
        parts = self.objective, self._data, self.trainer, updates
        self._step = TrainingStep(*parts, self.schedules, self.use_cuda_graphs)

    def _call_before_step(self) -> None:
        optimizer = self.trainer.optimizers[0]
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_before_optimizer_step(self.trainer, self, optimizer)

    @property
    def last_losses(self) -> Tensor:
        """The weighted losses of the last step, (n_losses,), in the order of the objective."""
        return torch.zeros(0) if self._step is None else self._step.losses

    def training_step(self, steps: range, batch_idx: int) -> None:
        """Train the steps of a range, or the first of them where they take long."""
        assert self._step is not None
        started = time.perf_counter()
        for step in steps:
            self.take_step(step, is_last=step == steps[-1])
            is_late = time.perf_counter() - started > RANGE_SECONDS
            if is_late and not self._step.is_graphed:
                break
        count_as_batches(self.trainer, step + 1 - steps.start)

    def take_step(self, step: int, is_last: bool) -> None:
        """One step: draw rays, update the sampler, compute the losses, update the parameters."""
        assert self._step is not None
        logged = is_logged(self.trainer, step + 1)
        output = self._step(step, is_last, with_stats=logged)
        self._end_step(step)
        if logged:
            self._log_step(step, output)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.max_gradient_norm)

    def _end_step(self, step: int) -> None:
        schedule: Any = self.lr_schedulers()
        schedule.step()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # which otherwise sees the last of a range
                callback.on_train_batch_end(self.trainer, self, None, step, step)

    def _log_step(self, step: int, output: StepOutput) -> None:
        stats = output.rays.stats
        assert stats is not None, "steps that are logged have them"
        self.ray_stats = stats
        scalars = self.objective.scalars(output.rays, output.scene, output.n_rays)
        scalars |= {"learning_rate": self._rate(step)}
        self.record({f"train/{name}": value for name, value in scalars.items()})
        self.record({"train/psnr": -10 * stats.mse().log10()}, prog_bar=True)


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)


def _compares_colors(loss: AbstractRayLoss) -> bool:
    """Whether a loss of rays suffices alone: of dietnerf's, all others are priors."""
    is_own = type(loss).__module__.startswith("dietnerf.")
    return isinstance(loss, Photometric | AbsoluteError) or not is_own
