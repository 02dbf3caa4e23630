"""A capture for Lightning: steps of random training rays, whole views for validation and test."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Subset

from dietnerf.data import AbstractReader, AbstractViewSelector, AllViews, FirstViews, ImageDataset
from dietnerf.data.camera_set import CameraSet
from dietnerf.data.dataset import Split, without_full_alpha
from dietnerf.data.memory import check_memory
from dietnerf.data.ray_sampling import RaySampling, RaySource
from dietnerf.data.reader import DatasetIndex
from dietnerf.data.view_sampling import ViewSource
from dietnerf.errors import UserError
from dietnerf.training.distributed import all_gather, n_processes, own_shard
from dietnerf.training.steps import StepRanges
from dietnerf.training.view_dataset import View, Views

MAX_RAYS = 1 << 18  # in a step, however few samples they have
SLACK = 1.12  # tolerated ratio of samples to their target where sizes are quantized
Background = Literal["white", "black", "random", "auto"]


def quantized_batch_size(n_rays: float) -> int:
    """The nearest number of rays out of four for each doubling, so that few sizes occur."""
    return round(2 ** (round(4 * math.log2(n_rays)) / 4))


def _storage_for(dataset: ImageDataset, device: torch.device) -> torch.device:
    """Where photographs are stored and rays drawn: on a GPU if they leave most of it free and have
    no masks, which would be read back; otherwise on the host."""
    if device.type != "cuda" or dataset.masks is not None:
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    return device if 4 * dataset.images.nbytes < free else torch.device("cpu")


class SceneDataModule(pl.LightningDataModule):
    """A capture, the few views of it that are trained on, and how rays are drawn from them.

    Args:
        reader: reads the capture.
        views: which training views are kept.
        val_views: which views validation renders, from the capture's validation split, or without
            one from the training photographs that `views` left over.
        rays_per_step: rays in a training step, or in the first one, over all devices.
        samples_per_step: target number of samples in a step, over all devices: the number of rays
            adapts to it, so that a step costs the same throughout training.
        batch_per_device: apply those two numbers to each device, so that a step grows with the
            number of devices, and multiply the learning rate by that number (the linear rule of
            Goyal et al. 2017).
        one_image_per_step: draw all rays of a step from one photograph, as the paper does, not from
            all.
        background: what stands behind transparent pixels. `random` draws a color for each ray and
            so teaches the field which pixels are transparent (with alpha that is more supervision
            than the paper has), and that photographs without alpha are opaque everywhere;
            validation and test are then on white. `auto` is white for photographs with alpha. For
            others it is random in training, and pictures have the mean color of the photographs'
            edges where no photograph looked.
        pixel_jitter: cast rays through random points of their pixels, not through the centers, as a
            pixel is the mean over its area.
        precrop_steps: take rays from the middle of the photographs during the first steps.
        precrop_fraction: share of the width and height that this middle is.
        coarse_until: shares of the run at which the whole views that Gaussians are trained on
            double their width and height, up to those of the photographs: with two they begin at a
            quarter.
    """

    def __init__(
        self,
        reader: AbstractReader,
        views: AbstractViewSelector | None = None,
        val_views: AbstractViewSelector | None = None,
        rays_per_step: int = 1024,
        samples_per_step: int | None = None,
        batch_per_device: bool = False,
        one_image_per_step: bool = False,
        background: Background = "white",
        pixel_jitter: bool = False,
        precrop_steps: int = 0,
        precrop_fraction: float = 0.5,
        coarse_until: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if list(coarse_until) != sorted(coarse_until) or not all(0 <= x <= 1 for x in coarse_until):
            raise UserError(
                f"coarse_until is {list(coarse_until)!r:.60}; give shares of the run, from 0 to 1, "
                "that ascend"
            )
        if not 1 <= rays_per_step <= MAX_RAYS:
            raise UserError(f"rays_per_step is {rays_per_step}; it must be 1 to {MAX_RAYS}")
        if not 0 < precrop_fraction <= 1:
            raise UserError(f"precrop_fraction is {precrop_fraction}; it must be in (0, 1]")
        self.reader = reader
        self.views = views or AllViews()
        self.val_views = val_views or FirstViews(1)
        if samples_per_step is not None and samples_per_step < 1:
            raise UserError(f"samples_per_step is {samples_per_step}; it must be at least 1")
        self.n_rays = rays_per_step
        self.samples_per_step = samples_per_step
        self.batch_per_device = batch_per_device
        self.one_image_per_step = one_image_per_step
        self.is_auto_background = background == "auto"
        self.has_random_background = background == "random"
        self.background = torch.zeros(3) if background == "black" else torch.ones(3)
        self.pixel_jitter = pixel_jitter
        self.precrop_steps = precrop_steps
        self.precrop_fraction = precrop_fraction
        self.coarse_until = tuple(coarse_until)
        self.has_few_sizes = False  # set where each number of rays is captured as a CUDA graph
        self.datasets: dict[Split, ImageDataset] = {}

    def rays_of(self, step: int, n_devices: int) -> tuple[int, float]:
        """How many rays of a step one device draws, and from which fraction of the photographs."""
        n_rays = self.n_rays if self.batch_per_device else max(1, self.n_rays // n_devices)
        fraction = self.precrop_fraction if step < self.precrop_steps else 1.0
        return quantized_batch_size(n_rays) if self.has_few_sizes else n_rays, fraction

    def ray_source(self, device: torch.device) -> RaySource:
        """The training photographs, as the Trainer's steps draw rays from them."""
        background = None if self.has_random_background else self.background
        sampling = RaySampling(background, self.pixel_jitter, self.one_image_per_step)
        dataset = self.datasets["train"]
        return RaySource(dataset, sampling, _storage_for(dataset, device), device)

    def view_source(self, device: torch.device) -> ViewSource:
        """The training photographs, as the Trainer's steps draw whole views from them."""
        background = None if self.has_random_background else self.background
        return ViewSource(self.datasets["train"], background, device)

    def check_devices(self, subcommand: str, n_devices: int) -> None:
        """Refuse fewer rays in a step, or fewer views, than devices.

        Raises:
            UserError: a device would have none.
        """
        dataset = self.datasets.get("val" if subcommand == "validate" else "test")
        if subcommand != "fit" and dataset is not None and len(dataset) < n_devices:
            raise UserError(
                f"there are fewer views ({len(dataset)}) than devices ({n_devices}): use "
                f"--trainer.devices {len(dataset)}"
            )
        if subcommand == "fit" and not self.batch_per_device and self.n_rays < n_devices:
            raise UserError(
                f"rays_per_step is {self.n_rays}, fewer than the {n_devices} devices: give each at "
                "least one ray, or use fewer devices"
            )

    def adapt(self, n_rays: int, n_samples: int) -> None:
        """Choose the number of rays of the next step from the number of samples of the last."""
        if self.samples_per_step is None:
            return
        fitting = self.samples_per_step * n_rays / max(n_samples, 1)
        # One batch is a noisy estimate of the mean, and a grid that empties quickly would make the
        # number of rays explode.
        fitting = min(max(fitting, 0.5 * self.n_rays, 1), 2 * self.n_rays, MAX_RAYS)
        if not self.has_few_sizes:
            self.n_rays = round(fitting)
        elif not 1 / SLACK <= fitting / self.n_rays <= SLACK:
            self.n_rays = quantized_batch_size(fitting)

    def state_dict(self) -> dict[str, Any]:
        return {"n_rays": self.n_rays, "n_rays_of_each": all_gather([self.n_rays])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        of_each = state_dict["n_rays_of_each"]
        if not all(type(n) is int and 1 <= n <= MAX_RAYS for n in (state_dict["n_rays"], *of_each)):
            raise UserError(
                f"the checkpoint has a number of rays that no step has: {of_each!r:.60}"
            )
        self.n_rays = state_dict["n_rays"]
        if len(of_each) == n_processes():  # as before, each with its own number
            (own,) = own_shard(len(of_each))
            self.n_rays = of_each[own]

    def setup(self, stage: str) -> None:
        if stage in ("fit", "validate") and "train" not in self.datasets:
            self._read_train_and_val()
        if stage in ("test", "predict") and "test" not in self.datasets:
            self._read_test()

    def _read_train_and_val(self) -> None:
        listing = self._needed("train")
        kept = self.views.choose(listing.cameras, listing.view_ids)
        chosen: dict[Split, tuple[DatasetIndex, list[int]]] = {"train": (listing, kept)}
        val = self.reader.listing("val")
        candidates = list(range(len(val or ())))
        if val is None:
            val, candidates = listing, sorted(set(range(len(listing))) - set(kept))
        if candidates:
            picked = self.val_views.choose(val.cameras[candidates], val.view_ids[candidates])
            chosen["val"] = (val, [candidates[i] for i in picked])
        self._read(chosen)
        train = self.datasets["train"]
        if self.is_auto_background:
            self.has_random_background = not train.has_alpha
            if self.has_random_background:
                self.background = train.edge_color()

    def _read_test(self) -> None:
        test = self._needed("test")
        self._read({"test": (test, list(range(len(test))))})

    def _needed(self, split: Split) -> DatasetIndex:
        listing = self.reader.listing(split)
        if listing is None:
            raise UserError(
                f"no photo of this capture was kept for {split}: to keep every 8th, train it with "
                "--data.reader.init_args.hold_every 8"
            )
        return listing

    def _read(self, chosen: dict[Split, tuple[DatasetIndex, list[int]]]) -> None:
        """Read the views at the chosen positions of each split, and no others."""
        check_memory(list(chosen.values()))
        for split, (listing, keep) in chosen.items():
            self.datasets[split] = without_full_alpha(listing.read(keep))

    def camera_set(self) -> CameraSet:
        """What a checkpoint keeps: the cameras of all splits, the photographs of none."""
        cameras = {split: dataset.cameras for split, dataset in self.datasets.items()}
        for split in ("val", "test"):
            everything = self.reader.cameras(split)
            if everything is not None:
                cameras[split] = everything
        view_ids = {split: dataset.view_ids.tolist() for split, dataset in self.datasets.items()}
        return CameraSet(cameras, view_ids, self.background)

    def protocol(self) -> str:
        """What the test views are, in words, for a table of results."""
        test = self.datasets["test"]
        size = f"{test.cameras.width}x{test.cameras.height}"
        behind = " on black" if self.background.sum() == 0 else " on white"
        of = f"{type(self.reader).__name__}, {len(test)} test views at {size}"
        return of + (behind if test.has_alpha else "")

    def views_rule(self) -> dict[str, Any]:
        """How the training views were chosen: the rule's name and its settings, seed included."""
        return {"rule": type(self.views).__name__, **vars(self.views)}

    def train_dataloader(self) -> StepRanges:
        assert self.trainer is not None, "called by the Trainer"
        return StepRanges(self.trainer)

    def transfer_batch_to_device(
        self, batch: View | range, device: torch.device, dataloader_idx: int
    ) -> View | range:
        return batch if isinstance(batch, range) else batch.to(device)

    def val_dataloader(self) -> DataLoader[View] | list[DataLoader[View]]:
        return self._views("val") if "val" in self.datasets else []

    def test_dataloader(self) -> DataLoader[View]:
        return self._views("test")

    def predict_dataloader(self) -> DataLoader[View]:
        return self._views("test")

    def _views(self, split: Split) -> DataLoader[View]:
        views = Views(self.datasets[split], self.background)
        share = own_shard(len(views)) or range(1)  # ignored: Lightning needs at least one view
        return DataLoader(Subset(views, share), batch_size=None)
