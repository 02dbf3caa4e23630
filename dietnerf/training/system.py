"""The LightningModule: holds field, sampler and losses, and adds the losses up.

No formula of NeRF stands here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import dietnerf
from dietnerf.chunks import sum_in_chunks
from dietnerf.data.scene import Capture
from dietnerf.errors import UserError
from dietnerf.fields import MLP, AbstractField
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rendering
from dietnerf.geometry.refinement import CameraRefinement
from dietnerf.losses import (
    AbstractLoss,
    AbstractRayLoss,
    AbstractSceneLoss,
    Interlevel,
    Moment,
    Photometric,
    Step,
)
from dietnerf.metrics import psnr
from dietnerf.randomness import step_generator
from dietnerf.renderer import rays_per_chunk, render_image, render_rays
from dietnerf.sampling import AbstractSampler, Proposal, Stratified
from dietnerf.schedules import AbstractSchedule
from dietnerf.schedules.base import Progress
from dietnerf.training.adam import SkippingAdam
from dietnerf.training.datamodule import RayBatch, SceneDataModule, Undrawn, View
from dietnerf.training.devices import gathered
from dietnerf.training.exposure import ExposureCorrection
from dietnerf.training.learning_rate import AbstractLearningRate, Exponential, Schedule
from dietnerf.training.optimizer_state import checked_state
from dietnerf.training.seen import Seen
from dietnerf.training.together import RecordedTraining

PARTS = ("field", "sampler", "refinement")  # which a picture needs
MOST = 2**64  # of what a history counts
CHECKPOINT_FORMAT = 2  # raised whenever older checkpoints can no longer be read


@dataclass(frozen=True)
class RenderedView:
    """A whole view as it is and as the field sees it: what validation, test and predict hand to
    callbacks.

    Args:
        view: the photograph.
        rendering: of height * width rays, row by row.
    """

    view: View
    rendering: Rendering

    @property
    def rgb(self) -> Tensor:
        """The rendered colours, (height, width, 3)."""
        return self.rendering.rgb.view_as(self.view.image)


@dataclass
class History:
    """How a field came to be.

    Args:
        seed: of the run; initial weights, rays and jitter follow from it.
        steps: optimisation steps taken.
        seconds: spent in those steps.
        rate_factor: of the learning rate, below 1 once training went back from numbers that were
            not finite.
        has_restarted: whether it began anew, with that seed, after a field had collapsed.
    """

    seed: int
    steps: int = 0
    seconds: float = 0.0
    rate_factor: float = 1.0
    has_restarted: bool = False

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """What `asdict` made of one.

        Raises:
            UserError: it is of another form, or a number is out of its range.
        """
        kinds = {field.name: field.type for field in fields(cls)}
        if not isinstance(saved, dict) or saved.keys() != kinds.keys():
            raise UserError("the checkpoint's history has other entries than those of a run")
        for name, value in saved.items():
            is_number = type(value) is kinds[name] and 0 <= value <= MOST
            if not is_number:
                raise UserError(f"the checkpoint's history has {name} {value!r:.60}")
        return cls(**saved)


class DietNeRF(pl.LightningModule):
    """A radiance field in training.

    Args:
        field: the field that is seen.
        sampler: where it is asked.
        losses: what it is judged by.
        learning_rate: the law of the learning rate.
        schedules: what else changes by the step.
        optimizer: `adam` with torch's defaults, as the paper's authors; `skipping_adam` for hash
            grids, most of whose table is not seen in a step.
        table_decay: decoupled weight decay (Loshchilov and Hutter 2019) of the field's tables, per
            learning rate: against what few views leave open.
        refinement: corrects the training cameras on the way; None takes them for exact.
        exposure: evens out photos that differ in exposure and white balance; None takes their
            colors for exact.
        records_steps: let each step draw its rays itself, with sizes that seldom change, so that on
            a GPU it is recorded and replayed (CUDA graphs) and the host does not hold it back.
    """

    def __init__(
        self,
        field: AbstractField | None = None,
        sampler: AbstractSampler | None = None,
        losses: list[AbstractLoss] | None = None,
        learning_rate: AbstractLearningRate | None = None,
        schedules: list[AbstractSchedule] | None = None,
        optimizer: Literal["adam", "skipping_adam"] = "adam",
        table_decay: float = 0.0,
        refinement: CameraRefinement | None = None,
        exposure: ExposureCorrection | None = None,
        records_steps: bool = False,
    ) -> None:
        if not table_decay >= 0:
            raise UserError(f"table_decay is {table_decay}; it must be at least 0")
        super().__init__()
        self.save_hyperparameters()
        self.field = field or MLP()
        self.sampler = sampler or Stratified()
        self.losses = nn.ModuleList(losses or [Photometric()])
        if not self.ray_losses:
            raise UserError("losses: none of them judges training rays; add Photometric")
        self.learning_rate = learning_rate or Exponential()
        self.schedules = schedules or []
        self.optimizer = optimizer
        self.table_decay = table_decay
        self.refinement = refinement
        self.exposure = exposure
        self.records_steps = records_steps
        self.recorded = RecordedTraining(self)
        self.capture: Capture | None = None
        self.history = History(torch.initial_seed())
        self.terms = torch.zeros(0)  # of the losses in the last step, (n_losses,)
        self.seen: Seen | None = None  # in the last step that was logged
        self._prepared_for: SceneDataModule | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy, as a moving average keeps one, needs no photographs, and must not reach from them
        # to the Trainer: with several devices that holds their processes.
        return {**super().__getstate__(), "_prepared_for": None}

    @property
    def term_names(self) -> list[str]:
        """Which loss each of `terms` is."""
        return [judge.name for judge in (*self.ray_losses, *self.scene_losses)]

    @property
    def ray_losses(self) -> list[AbstractRayLoss]:
        return [module for module in self.losses if isinstance(module, AbstractRayLoss)]

    @property
    def scene_losses(self) -> list[AbstractSceneLoss]:
        return [module for module in self.losses if isinstance(module, AbstractSceneLoss)]

    def setup(self, stage: str) -> None:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(datamodule, SceneDataModule):
            self.prepare(datamodule, self.trainer.strategy.root_device)
        precision: Any = self.trainer.precision_plugin
        if self.records_steps and getattr(precision, "scaler", None) is not None:
            # Recorded steps scale their loss; the scaler would wait for the GPU in each of them.
            precision.scaler = torch.amp.GradScaler(enabled=False)

    def prepare(self, data: SceneDataModule, device: torch.device) -> None:
        """Lay field and sampler out for the training cameras, and get what the losses need, unless
        that is done already.

        Raises:
            UserError: it cannot be done; a box may lie where no camera looks.
        """
        if self._prepared_for is data:
            return
        self._check_proposal()
        train = data.scenes["train"]
        for judge in (*self.ray_losses, *self.scene_losses):
            judge.check(self.field)
        for schedule in self.schedules:
            schedule.check(self.field)
        self.field.prepare(train.cameras)
        self.sampler.prepare(train.cameras, self.field)
        if self.refinement is not None:
            self.refinement.prepare(train.cameras)
        if self.exposure is not None:
            self.exposure.prepare(len(train))
        self.background = data.background
        for judge in (*self.ray_losses, *self.scene_losses):
            judge.prepare(train, data.background, device)
        self.capture = data.capture()
        if self.records_steps:
            self.recorded.check(data)
        data.last_together = self.recorded.last_together if self.records_steps else None
        self._prepared_for = data

    def _check_proposal(self) -> None:
        has_loss = any(isinstance(judge, Interlevel) for judge in self.losses)
        if isinstance(self.sampler, Proposal) != has_loss:
            raise UserError(
                "the sampler Proposal learns from the loss Interlevel, which is for nothing else: "
                "use both, or neither"
            )

    def configure_optimizers(self) -> Any:
        law = self.learning_rate
        grows = self.trainer.datamodule.batch_per_device  # type: ignore[attr-defined]
        initial = law.initial * (self.trainer.world_size if grows else 1)
        tables = self.field.tables()
        corrections = [part for part in (self.refinement, self.exposure) if part is not None]
        learned = [[p for p in part.parameters() if p.requires_grad] for part in corrections]
        apart = {id(p) for p in (*tables, *chain(*learned))}
        others = [p for p in self.parameters() if id(p) not in apart]
        groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        if tables:
            groups.append({"params": tables, "weight_decay": self.table_decay})
        for part, own in zip(corrections, learned, strict=True):
            rate = part.rate * initial
            groups.append({"params": own, "lr": rate, "weight_decay": part.decay})
        # AdamW without decay is Adam.
        kind = SkippingAdam if self.optimizer == "skipping_adam" else torch.optim.AdamW
        optimizer = kind(groups, lr=initial)
        optimizer.register_load_state_dict_pre_hook(checked_state)
        scheduler = Schedule(optimizer, lambda step: self._rate(step) / law.initial)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def _rate(self, step: int) -> float:
        return self.history.rate_factor * self.learning_rate(step, self.trainer.max_steps)

    def training_step(self, batch: RayBatch | Undrawn, batch_idx: int) -> Tensor:
        if isinstance(batch, Undrawn):
            batch = self.recorded.take_all_but_last(batch)
        else:
            progress = Progress(self.global_step, self.trainer.max_steps)
            for schedule in self.schedules:
                batch = replace(batch, rays=schedule.apply(progress, self.field, batch.rays))
        self.update_sampler(batch)
        logged = is_logged(self.trainer, batch)
        if isinstance(batch, RayBatch):
            loss, stats, n_samples = self._judge_rays(batch, logged)
        else:
            loss, stats, n_samples = self.recorded.judge(batch)
        scene_terms = self._judge_scene(batch)
        if scene_terms:
            of_scene = torch.stack([*scene_terms.values()]).sum()
            loss = loss + (self.recorded.scaled(of_scene) if self.records_steps else of_scene)
        self.note_terms(stats, scene_terms)
        self.trainer.datamodule.adapt(len(batch), n_samples)  # type: ignore[attr-defined]
        if logged:
            self._log_step(loss.detach(), stats, len(batch), n_samples)
        # One that is not finite makes its gradient so, which all processes hear of.
        return loss * (1 + 0 * loss.detach())

    def update_sampler(self, batch: RayBatch | Undrawn) -> None:
        # The same on all processes, so that they go on with the same sampler.
        generator = step_generator("sampler", batch.index, 0, self.device)
        self.sampler.update(batch.index, self.field, generator)

    def note_terms(self, stats: Tensor, scene_terms: dict[AbstractSceneLoss, Tensor]) -> None:
        none = stats.new_zeros(())
        of_scene = [scene_terms.get(judge, none).detach() for judge in self.scene_losses]
        of_rays = stats[: len(self.ray_losses)]
        self.terms = torch.cat([of_rays, torch.stack(of_scene)]) if of_scene else of_rays

    def loss_weights(self) -> list[float]:
        """Of the losses of rays, in this step."""
        n_steps = self.trainer.max_steps
        return [judge.weight_at(self.global_step, n_steps) for judge in self.ray_losses]

    def judge(
        self, batch: RayBatch, weights: Sequence[float | Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Rendering]:
        """Each loss of training rays, weighted, (n_losses,), and what they judge."""
        rays = batch.rays
        if self.refinement is not None:
            rays = self.refinement(rays, batch.ids)
        rendering, coarse = render_rays(rays, self.field, self.sampler, batch.background, generator)
        if self.exposure is not None:
            rendering = replace(rendering, rgb=self.exposure(rendering.rgb, batch.ids))
        made = Step(
            self.global_step, rays, batch.rgb, batch.background, rendering, coarse, batch.alpha
        )
        none = made.target.new_zeros(())  # of a loss that does not count in this step
        terms = [
            weight * judge(made) if isinstance(weight, Tensor) or weight else none
            for judge, weight in zip(self.ray_losses, weights, strict=True)
        ]
        return torch.stack(terms), rendering

    def _judge_rays(self, batch: RayBatch, logged: bool) -> tuple[Tensor, Tensor, int]:
        """The losses of training rays, summed, with what is logged of them and the number of
        samples."""
        n_samples = 0
        seen: list[Seen] = []
        generator = step_generator("samples", batch.index, self.global_rank, self.device)
        weights = self.loss_weights()

        def loss_and_stats(chunk: RayBatch) -> tuple[Tensor, Tensor]:
            terms, rendering = self.judge(chunk, weights, generator)
            nonlocal n_samples
            n_samples += len(rendering.weights)
            share = len(chunk) / len(batch)
            terms = share * terms
            stats = terms.detach()
            if logged:
                seen.append(Seen.of(rendering, chunk))
                stats = torch.cat([stats, share * seen[-1].mse()[None]])
            return terms.sum(), stats

        loss, stats = sum_in_chunks(loss_and_stats, batch.split(self._chunk_size(batch)), self)
        if seen:
            self.seen = Seen.cat(seen)
        return loss, stats, n_samples

    def _judge_scene(self, batch: RayBatch | Undrawn) -> dict[AbstractSceneLoss, Tensor]:
        """The losses of the scene itself, those that count in this step."""
        step, terms = self.global_step, {}
        for judge in self.scene_losses:
            weight = judge.weight_at(step, self.trainer.max_steps)
            if weight == 0:
                continue
            generator = step_generator(judge.name, batch.index, self.global_rank)
            background = self.background.to(self.device)
            moment = Moment(step, self.field, self.sampler, background, generator)
            term = weight * judge(moment)
            judge.scalars |= {"weight": torch.tensor(weight), "weighted": term.detach()}
            terms[judge] = term
        return terms

    def _chunk_size(self, batch: RayBatch) -> int:
        # A loss scale for half precision is applied after chunks are differentiated: too late.
        if self.trainer.precision == "16-mixed":
            return len(batch)
        return rays_per_chunk(self.field, self.sampler, self.device)

    def _log_step(self, loss: Tensor, stats: Tensor, n_rays: int, n_samples: int) -> None:
        *terms, mse = stats.unbind()
        scalars = {
            "train/loss": loss,
            "train/learning_rate": torch.tensor(self._rate(self.global_step)),
            "train/samples_per_ray": torch.tensor(n_samples / n_rays),
        }
        judges = [module for module in self.losses if isinstance(module, AbstractRayLoss)]
        scalars |= {f"train/{judge.name}": term for judge, term in zip(judges, terms, strict=True)}
        for judge in self.losses:
            if isinstance(judge, AbstractSceneLoss):  # what it found when it last counted
                scalars |= {
                    f"train/{judge.name}_{name}": value for name, value in judge.scalars.items()
                }
        scalars |= {f"train/{name}": value for name, value in self.sampler.scalars().items()}
        self.log_dict(scalars, batch_size=n_rays)
        self.log("train/psnr", -10 * mse.log10(), prog_bar=True, batch_size=n_rays)

    def refined_capture(self) -> Capture:
        """What a checkpoint keeps of the capture, with the training cameras as corrected."""
        assert self.capture is not None, "a system that was trained or loaded has its capture"
        if self.refinement is None:
            return self.capture
        cameras = dict(self.capture.cameras)
        cameras["train"] = self.refinement.refined(cameras["train"])
        return replace(self.capture, cameras=cameras)

    def render(self, cameras: Cameras, index: int, background: Tensor) -> Rendering:
        """One whole image of the field, (height * width) rays row by row."""
        return render_image(cameras, index, self.field, self.sampler, background.to(self.device))

    def _render_view(self, view: View) -> RenderedView:
        return RenderedView(view, self.render(view.cameras, 0, view.background))

    def on_validation_epoch_start(self) -> None:
        self._scores: list[Tensor] = []

    def validation_step(self, view: View, batch_idx: int) -> RenderedView:
        rendered = self._render_view(view)
        self._scores.append(psnr(rendered.rgb, view.image, view.mask).cpu())
        return rendered

    def on_validation_epoch_end(self) -> None:
        n_views = len(self.trainer.datamodule.scenes["val"])  # type: ignore[attr-defined]
        scores = gathered(self._scores)[:n_views]  # not of processes that had none of their own
        self.log("val/psnr", torch.stack(scores).mean(), prog_bar=True, batch_size=len(scores))

    def test_step(self, view: View, batch_idx: int) -> RenderedView:
        return self._render_view(view)

    def predict_step(self, view: View, batch_idx: int) -> RenderedView:
        return self._render_view(view)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["dietnerf"] = {
            "format": CHECKPOINT_FORMAT,
            "version": dietnerf.__version__,
            "capture": None if self.capture is None else self.capture.to_dict(),
            "history": asdict(self.history),
        }

        # Options are read by what they are for, never by a loader that a file names.
        checkpoint["hyper_parameters"].pop("_instantiator", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_format(checkpoint, "this checkpoint")
        saved = checkpoint["dietnerf"]
        self.capture = Capture.from_dict(saved["capture"])
        self.history = History.from_dict(saved["history"])
        forget_places(checkpoint)


def forget_places(checkpoint: dict[str, Any]) -> None:
    """Drop the paths that callbacks saved: no file decides what is removed or written over."""
    for state in checkpoint.get("callbacks", {}).values():
        for name in [key for key in state if str(key).endswith(("path", "best_k_models"))]:
            del state[name]
        state["best_model_path"] = ""  # which Lightning's callback wants


def is_logged(trainer: pl.Trainer, batch: RayBatch | Undrawn) -> bool:
    """Whether Lightning will write down what a step logs: to log at every step would cost more than
    a small step itself."""
    return (batch.index + 1) % steps_between_logs(trainer) == 0


def steps_between_logs(trainer: pl.Trainer) -> int:
    return trainer.log_every_n_steps  # type: ignore[attr-defined]


def check_format(checkpoint: dict[str, Any], name: str) -> None:
    """Refuse a checkpoint that this version cannot read.

    Raises:
        UserError: it is not one of dietnerf's, or of another format.
    """
    saved = checkpoint.get("dietnerf")
    if not isinstance(saved, dict) or "format" not in saved:
        raise UserError(f"{name} was not written by dietnerf; train one with `train.py fit`")
    if type(saved["format"]) is not int or saved["format"] != CHECKPOINT_FORMAT:
        raise UserError(
            f"{name} was written by dietnerf {saved.get('version')} (format {saved['format']}), "
            f"but this is {dietnerf.__version__} (format {CHECKPOINT_FORMAT}); "
            "use that version or train it again"
        )
