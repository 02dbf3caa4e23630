"""The live viewer: shows the scene in browsers during training."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F

from dietnerf.data.dataset import ImageDataset
from dietnerf.training.steps import is_logged
from dietnerf.training.system import DietNeRF
from dietnerf.viewer import Viewer
from dietnerf.viewer.progress import Progress
from dietnerf.visualize import to_uint8

SHARE = 0.12  # of the training time, spent on rendering; viser's own thread takes some more
STILL = 0.3  # seconds of the finest picture
OVERDRAFT = 0.5  # seconds by which a moving camera may exceed that share
PHOTO = 96  # pixels along the longer side of a drawn photograph


class LiveViewer(Callback):
    """Shows the scene in browsers while it trains, at any camera.

    It renders between ranges of steps within its share of the time, and only while a browser is
    open. It draws no random numbers, so that a watched run ends with the same weights. If the
    viewer fails, the run continues without it.

    Args:
        host, port: address that it serves; 0.0.0.0 is open to the whole network.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8080) -> None:
        self.host, self.port = host, port
        self.viewer: Viewer | None = None
        self._saved = 0.0  # seconds to spend on pictures
        self._since: float | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DietNeRF)
        dataset = trainer.datamodule.datasets["train"]  # type: ignore[attr-defined]
        self.viewer = Viewer(
            pl_module.field,
            pl_module.sampler,
            dataset.cameras,
            pl_module.background.to(trainer.strategy.root_device),
            Path(trainer.default_root_dir),
            thumbnails(dataset, pl_module.background),
            self.host,
            self.port,
        )
        # Other processes would time out while waiting for the next step.
        can_pause = trainer.world_size == 1
        self.progress = Progress(
            self.viewer.server, trainer.max_steps, self.viewer.notices, can_pause
        )
        way = self.viewer.way
        print(f"The scene is at {self.viewer.address} while it trains.{way}", flush=True)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.viewer is None:
            return
        if not self.viewer.is_watched:
            self._since = None
            return
        try:
            self._attend(self.viewer)
        except Exception as error:  # no failure of the viewer may end a run
            self.viewer.notices.say("it failed, and the run goes on without it", error)
            self._close()

    def _attend(self, viewer: Viewer) -> None:
        now = time.perf_counter()
        if self._since is not None:
            self._saved = min(self._saved + SHARE * (now - self._since), STILL)
        viewer.field_changed()
        self.progress.draw()
        if self._saved > -OVERDRAFT:
            viewer.paint(STILL, only_moved=self._saved < 0)
        self._since = time.perf_counter()
        self._saved -= self._since - now
        self._wait_while_paused(viewer)

    def _wait_while_paused(self, viewer: Viewer) -> None:
        while self.progress.is_paused:
            if not viewer.is_watched:
                self.progress.go_on()
            if not viewer.paint():
                viewer.wake.wait(0.1)
                viewer.wake.clear()
            self._since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self.viewer is None or not is_logged(trainer, trainer.global_step):
            return
        self.progress.max_steps = trainer.max_steps  # which a budget of time changes
        metrics = trainer.callback_metrics
        if {"train/loss", "train/psnr"} <= metrics.keys():
            self.progress.record(
                trainer.global_step, float(metrics["train/loss"]), float(metrics["train/psnr"])
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        viewer, self.viewer = self.viewer, None
        if viewer is not None:
            with suppress(Exception):  # it is no longer needed
                viewer.close()


def thumbnails(dataset: ImageDataset, background: Tensor) -> Tensor:
    """Photographs, small enough to be drawn beside the scene, (n, h, w, 3), 8 bit."""
    height, width = dataset.images.shape[1:3]
    shrink = max(1.0, max(height, width) / PHOTO)
    size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    photos = []
    for i in range(len(dataset)):
        image = dataset.image(i, background).permute(2, 0, 1)[None]
        small = F.interpolate(image, size, mode="area")
        photos.append(to_uint8(small[0].permute(1, 2, 0)))
    return torch.stack(photos)
