"""What happens beside training: progress, pictures for TensorBoard, results of a test."""

import gc
import json
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

import dietnerf
from dietnerf.errors import UserError
from dietnerf.files import write_file
from dietnerf.metrics import ImageMetrics, Scores, mean_metrics, psnr
from dietnerf.renderer import render_rays
from dietnerf.training.distributed import all_gather, n_processes
from dietnerf.training.exposure import fitted_on_left
from dietnerf.training.steps import is_logged, steps_between_logs
from dietnerf.training.system import DietNeRF
from dietnerf.training.view_dataset import RenderedView, View
from dietnerf.visualize import captioned, depth_range, picture, to_uint8

HISTOGRAM_RAYS = 2048  # of a view, spread over it

# Those that a score may depend on.
PACKAGES = ("torchvision", "torchmetrics", "kornia", "pytorch-lightning")


class ProgressBar(TQDMProgressBar):
    """Lightning's bar, without the version number of the logger, drawn as often as steps are
    logged."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._refresh_rate = steps_between_logs(trainer) if stage == "fit" else 1

    @property
    def total_train_batches(self) -> int:
        """Of the whole run; Lightning knows none for one that goes on."""
        return self.trainer.max_steps

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_start(trainer)
        self._begin(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)  # which is left out where an epoch goes on
        self._begin(trainer)

    def _begin(self, trainer: pl.Trainer) -> None:
        """Let the bar start where the run stands."""
        bar = self.train_progress_bar
        bar.set_description("Training")
        bar.initial = bar.n = trainer.global_step  # of the rate

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        self.train_progress_bar.total = self.total_train_batches  # a budget of time changes it
        n_done = trainer.global_step  # Lightning's number is that of the first step of a range
        super().on_train_batch_end(trainer, pl_module, outputs, batch, n_done - 1)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics


class Stopwatch(Callback):
    """Times steps alone (no loading, validation or checkpointing) and logs rays per second."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._n_steps = 0  # since then
        self._seconds_per_step: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Python's garbage collector need not look again and again through what was imported.
        gc.collect()
        gc.freeze()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        gc.unfreeze()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._started is None:
            self._started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: range,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, DietNeRF)
        pl_module.history.steps = trainer.global_step
        self._n_steps += trainer.global_step - batch.start
        logged = is_logged(trainer, trainer.global_step)
        if logged or pl_module.device.type != "cuda":  # a GPU is not waited for in every step
            self._count(pl_module)
        if logged and self._seconds_per_step:
            n_rays, _ = trainer.datamodule.rays_of(batch[-1], trainer.world_size)  # type: ignore[attr-defined]
            rate = n_rays * trainer.world_size / self._seconds_per_step
            pl_module.record({"train/rays_per_second": rate})

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._count(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._count(pl_module)

    def _count(self, system: pl.LightningModule) -> None:
        """Add up the steps since the last time, once the GPU has done them."""
        assert isinstance(system, DietNeRF)
        if self._started is None or self._n_steps == 0:
            return
        if system.device.type == "cuda":
            torch.cuda.synchronize(system.device)
        seconds = time.perf_counter() - self._started
        system.history.seconds += seconds
        kept = 0.9**self._n_steps if self._seconds_per_step else 0.0
        of_one = seconds / self._n_steps
        self._seconds_per_step = kept * (self._seconds_per_step or 0.0) + (1 - kept) * of_one
        self._started, self._n_steps = None, 0


class ValidationPictures(Callback):
    """Shows, in TensorBoard or another logger that takes pictures, the first validation view beside
    its photograph, depth and opacity, how the colors of its rays are shared out over samples, and
    what the losses of the scene last looked at."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DietNeRF)
        for judge in pl_module.objective.regularizers:
            if judge.debug_image is not None:
                found = ", ".join(f"{name} {float(x):.4g}" for name, x in judge.scalars.items())
                pixels = captioned(to_uint8(judge.debug_image).cpu(), found)
                log_picture(trainer, f"train/{judge.name}", pixels)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx > 0 or not trainer.is_global_zero:
            return
        log_picture(trainer, "val/photograph_rendering_depth_opacity", comparison(outputs))
        if isinstance(trainer.logger, TensorBoardLogger):
            assert isinstance(pl_module, DietNeRF)
            weights = weights_along_rays(pl_module, outputs.view)
            if len(weights) > 0:  # nothing is seen of an empty field
                trainer.logger.experiment.add_histogram(
                    "val/weights_along_rays", weights, trainer.global_step
                )


def log_picture(trainer: pl.Trainer, name: str, pixels: Tensor) -> None:
    """Hand 8-bit pixels (height, width, 3) to the logger, if it takes pictures: TensorBoard's does,
    and those with a `log_image`, as that of Weights & Biases."""
    logger, step = trainer.logger, trainer.global_step
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    elif logger is not None and hasattr(logger, "log_image"):
        logger.log_image(name, [pixels.numpy()], step=step)


@torch.no_grad()
def weights_along_rays(system: DietNeRF, view: View) -> Tensor:
    """Shares that single samples have in the colors of a view's rays, on the CPU, of those above
    1/1000: near one where surfaces are hard, small where all is fog."""
    n_pixels = view.cameras.width * view.cameras.height
    pixels = torch.linspace(0, n_pixels - 1, min(n_pixels, HISTOGRAM_RAYS)).long()
    rays = view.cameras.image_rays(0, pixels).to(system.device)
    rendering, _ = render_rays(rays, system.field, system.sampler, view.background, None)
    weights = rendering.weights.float().cpu()
    return weights[weights > 1e-3]


def comparison(rendered: RenderedView) -> Tensor:
    """Photograph, rendering, depth, opacity in a row: (height, 4 * width, 3), 8 bit, on the CPU."""
    photograph, rendering = rendered.view.image, rendered.rendering
    height, depths = photograph.shape[0], depth_range(rendering)
    drawn = [picture(rendering, mode, height, depths) for mode in ("rgb", "depth", "opacity")]
    return torch.cat([to_uint8(photograph).cpu(), *(p.cpu() for p in drawn)], dim=1)


class TestResults(Callback):
    """Scores every test view, and writes `metrics.json` and the renderings beside the photographs.

    What cannot be written hinders nothing else, and is said at the end.

    Args:
        run: folder of the run.
        lpips_weights: file with torchvision's VGG-16 weights; without it torch's usual cache is
            used.
    """

    def __init__(self, run: str, lpips_weights: str | None = None) -> None:
        self.run = Path(run)
        self._lpips_weights = lpips_weights
        self._scored: list[tuple[str, int, Scores]] = []
        self._failure: UserError | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Not before the test views were found: the weights may have to be downloaded.
        self.metrics = ImageMetrics(self._lpips_weights)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._scored, self._failure = [], None
        self._started = time.perf_counter()

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        view = outputs.view
        scores = self.metrics(outputs.rgb, view.image, view.mask)
        if isinstance(pl_module, DietNeRF) and pl_module.exposure is not None:
            scores |= right_half_scores(outputs)
        self._scored.append((view.name, view.view_id, scores))
        try:
            save_picture(self.run / "test" / f"{view.name}.png", comparison(outputs))
        except UserError as error:
            self._failure = self._failure or error

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        scored, reasons = all_gather(self._scored), all_gather([self.metrics.unavailable])
        if trainer.is_global_zero:
            self._write(trainer, pl_module, scored, reasons)
        if self._failure is not None:
            raise self._failure

    def _write(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        scored: list[tuple[str, int, Scores]],
        reasons: list[dict[str, str]],
    ) -> None:
        """What all processes found, into the file, onto the screen and to the logger."""
        assert isinstance(pl_module, DietNeRF)
        unavailable = {name: why for found in reversed(reasons) for name, why in found.items()}
        mean = mean_metrics([scores for _, _, scores in scored])
        results = {
            "protocol": trainer.datamodule.protocol(),  # type: ignore[attr-defined]
            "mean": mean,
            "unavailable": unavailable,
            "checkpoint": str(trainer.ckpt_path),
            "views": trainer.datamodule.views_rule(),  # type: ignore[attr-defined]
            **provenance(pl_module),
            "test_seconds": round(time.perf_counter() - self._started, 2),
            "per_view": [
                {"view": name, "view_id": view_id, **scores} for name, view_id, scores in scored
            ],
        }
        print(summary(mean, unavailable, self.run), flush=True)  # also where there is no room
        content = json.dumps(results, indent=2, allow_nan=False) + "\n"
        write_file(self.run / "metrics.json", content)
        if trainer.logger is not None:
            found = {f"test/{name}": value for name, value in mean.items() if value is not None}
            trainer.logger.log_metrics(found, pl_module.history.steps)


def right_half_scores(rendered: RenderedView) -> Scores:
    """PSNR of the right half of a view, as rendered and with the exposure fitted on its left half;
    None where no pixel of it counts."""
    view, half = rendered.view, rendered.rgb.shape[1] // 2
    mask = None if view.mask is None else view.mask[:, half:]
    fitted = fitted_on_left(rendered.rgb, view.image, view.mask)
    names = {"psnr_right": rendered.rgb, "psnr_right_fitted": fitted}
    if mask is not None and not mask.any():
        return dict.fromkeys(names)
    found = {
        name: float(psnr(x[:, half:], view.image[:, half:], mask)) for name, x in names.items()
    }
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


class PredictedPictures(Callback):
    """Writes the renderings of `predict` as PNG files, and says where.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: str) -> None:
        self.folder = Path(run) / "predict"

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        save_picture(self.folder / f"{outputs.view.name}.png", to_uint8(outputs.rgb).cpu())

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"What the test cameras see is in {self.folder}.")


def save_picture(path: Path, pixels: Tensor) -> None:
    """Write 8-bit pixels (height, width, 3) as a PNG."""
    write_file(path, iio.imwrite("<bytes>", pixels.numpy(), extension=".png"))


def provenance(system: DietNeRF) -> dict[str, Any]:
    """Where a result comes from: views, seed, steps, time, device, versions."""
    assert system.camera_set is not None, "a system that was trained or loaded has its cameras"
    is_cuda = system.device.type == "cuda"
    return {
        "train_view_ids": system.camera_set.view_ids["train"],
        "seed": system.history.seed,
        "steps": system.history.steps,
        "train_seconds": round(system.history.seconds, 2),
        "device": torch.cuda.get_device_name(system.device) if is_cuda else cpu_name(),
        "devices": n_processes(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "dietnerf": dietnerf.__version__,
            "torch": torch.__version__,  # with the name of its build
            **{name: version(name) for name in PACKAGES},
        },
    }


def cpu_name() -> str:
    """The model of the processor, where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def summary(mean: Scores, unavailable: dict[str, str], run: Path) -> str:
    """The mean scores for the terminal."""
    lines = [
        f"  {name:16} {'-' if value is None else f'{value:.4f}'}" for name, value in mean.items()
    ]
    reasons = [f"  {name}: {reason}" for name, reason in unavailable.items()]
    return "\n".join([f"{run / 'metrics.json'}:", *lines, *reasons])


class FinalMetrics(Callback):
    """Logs the hyper-parameters with the scores that training ended with."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        final = {
            f"final/{name}": float(value)
            for name, value in trainer.callback_metrics.items()
            if name in ("train/psnr", "train/loss", "val/psnr")
        }
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.log_hyperparams(self._chosen(trainer, pl_module), final)
        elif trainer.logger is not None:
            trainer.logger.log_hyperparams(self._chosen(trainer, pl_module))
            trainer.logger.log_metrics(final, trainer.global_step)

    @staticmethod
    def _chosen(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What distinguishes runs, losses by their names: columns of a table."""
        assert isinstance(pl_module, DietNeRF) and pl_module.camera_set is not None
        chosen = {k: v for k, v in pl_module.hparams.items() if k != "_instantiator"}
        options = chosen.pop("losses", None) or []
        losses = {type(m).__name__: o for m, o in zip(pl_module.losses, options, strict=False)}
        facts = {
            "seed": pl_module.history.seed,
            "reader": type(trainer.datamodule.reader).__name__,  # type: ignore[attr-defined]
            "n_views": len(pl_module.camera_set.view_ids["train"]),
        }
        return {**facts, "losses": losses, **chosen}
