"""What loggers show of validations: images, histograms, and the final scores."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from dietnerf.fields import AbstractField
from dietnerf.renderer import render_rays
from dietnerf.training.callbacks.images import comparison, log_image
from dietnerf.training.system import DietNeRF
from dietnerf.training.view_dataset import View
from dietnerf.visualize import captioned, to_uint8

HISTOGRAM_RAYS = 2048  # of a view, spread over it


class ValidationImages(Callback):
    """Logs, with TensorBoard or another logger of images, the first validation view beside its
    photograph, depth and opacity, a histogram of the weights along its rays, and the debug images
    of regularizers."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DietNeRF)
        for loss in pl_module.objective.regularizers:
            if loss.debug_image is not None:
                found = ", ".join(f"{name} {float(x):.4g}" for name, x in loss.scalars.items())
                pixels = captioned(to_uint8(loss.debug_image).cpu(), found)
                log_image(trainer, f"train/{loss.name}", pixels)

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
        log_image(trainer, "val/photograph_rendering_depth_opacity", comparison(outputs))
        if isinstance(trainer.logger, TensorBoardLogger):
            assert isinstance(pl_module, DietNeRF)
            weights = weights_along_rays(pl_module, outputs.view)
            if len(weights) > 0:  # an empty field has none, and Gaussians
                trainer.logger.experiment.add_histogram(
                    "val/weights_along_rays", weights, trainer.global_step
                )


@torch.no_grad()
def weights_along_rays(system: DietNeRF, view: View) -> Tensor:
    """Weights of single samples along a view's rays above 1/1000, on the CPU: near one at sharp
    surfaces, small in fog; none of Gaussians."""
    if not isinstance(system.field, AbstractField):
        return torch.zeros(0)
    n_pixels = view.cameras.width * view.cameras.height
    pixels = torch.linspace(0, n_pixels - 1, min(n_pixels, HISTOGRAM_RAYS)).long()
    rays = view.cameras.image_rays(0, pixels).to(system.device)
    rendering, _ = render_rays(rays, system.field, system.sampler, rays.rays_o.new_zeros(3), None)
    weights = rendering.weights.float().cpu()
    return weights[weights > 1e-3]


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
