"""Results of a run on its test views: scores with their origin, and images."""

import json
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

import dietnerf
from dietnerf.errors import UserError
from dietnerf.files import write_file
from dietnerf.metrics import ImageMetrics, Scores, mean_metrics, psnr
from dietnerf.training.callbacks.images import comparison, save_image
from dietnerf.training.distributed import all_gather, n_processes
from dietnerf.training.exposure import fitted_on_left
from dietnerf.training.system import DietNeRF
from dietnerf.training.view_dataset import RenderedView
from dietnerf.visualize import to_uint8

# Packages that a score may depend on.
PACKAGES = ("torchvision", "torchmetrics", "kornia", "pytorch-lightning")


class TestResults(Callback):
    """Scores every test view, and writes `metrics.json` and the renderings beside the photographs.

    A file that cannot be written is reported at the end.

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
        # Only after the test views were found, as weights may have to be downloaded.
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
            save_image(self.run / "test" / f"{view.name}.png", comparison(outputs))
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
        """Write the results of all processes to the file, the terminal and the logger."""
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


class PredictedImages(Callback):
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
        save_image(self.folder / f"{outputs.view.name}.png", to_uint8(outputs.rgb).cpu())

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"What the test cameras see is in {self.folder}.")


def provenance(system: DietNeRF) -> dict[str, Any]:
    """The origin of a result: views, seed, steps, time, device, versions."""
    assert system.camera_set is not None, "a system that was trained or loaded has its capture"
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
    """The model of the processor, where the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def summary(mean: Scores, unavailable: dict[str, str], run: Path) -> str:
    """The mean scores for the terminal, and each reason once for those that are missing."""
    lines = [
        f"  {name:16} {'-' if value is None else f'{value:.4f}'}" for name, value in mean.items()
    ]
    names_of: dict[str, list[str]] = {}
    for name, reason in unavailable.items():
        names_of.setdefault(reason, []).append(name)
    reasons = [f"  {' and '.join(names)}: {reason}" for reason, names in names_of.items()]
    return "\n".join([f"{run / 'metrics.json'}:", *lines, *reasons])
