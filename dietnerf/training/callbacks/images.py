"""Images of callbacks: what they show, and how they are logged and saved."""

from pathlib import Path

import imageio.v3 as iio
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from dietnerf.files import write_file
from dietnerf.training.view_dataset import RenderedView
from dietnerf.visualize import depth_range, to_image, to_uint8


def log_image(trainer: pl.Trainer, name: str, pixels: Tensor) -> None:
    """Log 8-bit pixels (height, width, 3), if the logger takes images: TensorBoard's does, and
    those with a `log_image`, such as that of Weights & Biases."""
    logger, step = trainer.logger, trainer.global_step
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, pixels, step, dataformats="HWC")
    elif logger is not None and hasattr(logger, "log_image"):
        logger.log_image(name, [pixels.numpy()], step=step)


def comparison(rendered: RenderedView) -> Tensor:
    """Photograph, rendering, depth, opacity in a row: (height, 4 * width, 3), 8 bit, on the CPU."""
    photograph, rendering = rendered.view.image, rendered.rendering
    height, depths = photograph.shape[0], depth_range(rendering)
    drawn = [to_image(rendering, mode, height, depths) for mode in ("rgb", "depth", "opacity")]
    return torch.cat([to_uint8(photograph).cpu(), *(p.cpu() for p in drawn)], dim=1)


def save_image(path: Path, pixels: Tensor) -> None:
    """Write 8-bit pixels (height, width, 3) as a PNG."""
    write_file(path, iio.imwrite("<bytes>", pixels.numpy(), extension=".png"))
