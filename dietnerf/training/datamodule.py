"""Photographs as batches: random training rays, whole views for validation and test."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from dietnerf.data import AbstractReader, AbstractViews, AllViews, FirstViews, Scene
from dietnerf.data.loading import check_memory
from dietnerf.data.scene import Capture, Listing, Split, without_full_alpha
from dietnerf.errors import UserError
from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.rays import Rays
from dietnerf.randomness import step_generator
from dietnerf.training.devices import gathered, n_processes, own_share

MAX_RAYS = 1 << 18  # in a step, however few samples they have
SLACK = 1.12  # by which steps of few sizes may have more or fewer samples than they shall
N_REDRAWS = 8  # of pixels that do not count, before those that do are listed
Background = Literal["white", "black", "random", "auto"]


@dataclass(frozen=True)
class RayBatch:
    """Training rays with the colours that were photographed.

    Args:
        rays: (n_rays).
        rgb: colours over the background, (n_rays, 3).
        background: the colour behind each ray, (n_rays, 3).
        alpha: how opaque the photographed pixels are, (n_rays,) in [0, 1], or None if they have no
            alpha.
        ids: which training camera cast each ray, int64, (n_rays,).
        index: number of the batch in the run; what is random in it follows from that.
    """

    rays: Rays
    rgb: Tensor
    background: Tensor
    alpha: Tensor | None
    ids: Tensor
    index: int

    def __len__(self) -> int:
        return len(self.rays)

    def to(self, device: torch.device | str) -> Self:
        if self.rgb.device == torch.device(device):
            return self
        return replace(
            self,
            rays=self.rays.to(device),
            rgb=self.rgb.to(device),
            background=self.background.to(device),
            alpha=None if self.alpha is None else self.alpha.to(device),
            ids=self.ids.to(device),
        )

    def split(self, n_rays: int) -> list[Self]:
        """Consecutive batches of at most `n_rays` rays."""
        if n_rays >= len(self):
            return [self]
        parts = [slice(i, i + n_rays) for i in range(0, len(self), n_rays)]
        return [
            replace(
                self,
                rays=self.rays[p],
                rgb=self.rgb[p],
                background=self.background[p],
                alpha=None if self.alpha is None else self.alpha[p],
                ids=self.ids[p],
            )
            for p in parts
        ]


@dataclass(frozen=True)
class View:
    """A whole photograph.

    Args:
        name: what it is called in metrics and file names.
        view_id: its number in the list of its split.
        image: over the background, (height, width, 3) in [0, 1].
        background: (3,).
        cameras: its camera, a batch of one.
        mask: which pixels count, bool, (height, width), or None where all do.
    """

    name: str
    view_id: int
    image: Tensor
    background: Tensor
    cameras: Cameras
    mask: Tensor | None = None

    def to(self, device: torch.device | str) -> Self:
        """The photograph on a device; cameras stay where they are."""
        return replace(
            self,
            image=self.image.to(device),
            background=self.background.to(device),
            mask=None if self.mask is None else self.mask.to(device),
        )


class RaySource:
    """Photographs on a device, from which random rays are drawn there.

    Args:
        scene: the training views.
        settings: how rays are drawn.
        device: where.
    """

    def __init__(
        self, scene: Scene, settings: "SceneDataModule", device: torch.device | str = "cpu"
    ) -> None:
        self.scene = scene.to(device)
        self.settings = settings
        self.device = torch.device(device)
        self.background = settings.background.to(device)

    def draw(self, n_rays: int, share: float, index: int, generator: torch.Generator) -> RayBatch:
        """Rays through the middle `share` of the photographs, as batch `index`. Without masks
        nothing is waited for."""
        settings, scene = self.settings, self.scene

        def draw(low: int, high: int, n: int = n_rays) -> Tensor:
            return torch.randint(low, high, (n,), generator=generator, device=self.device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=self.device)

        if settings.one_image_per_step:
            ids = draw(0, len(scene), 1).expand(n_rays)
        else:
            ids = draw(0, len(scene))
        columns = draw(*_central(scene.cameras.width, share))
        rows = draw(*_central(scene.cameras.height, share))
        if scene.masks is not None:
            self._redraw(ids, columns, rows, share, draw)
        background = self.background
        if settings.has_random_background:
            background = uniform(n_rays, 3)
        pixels = scene.pixels(ids, columns, rows)
        rgb = scene.rgb(pixels, background)
        if settings.pixel_jitter:
            columns = columns + uniform(n_rays) - 0.5
            rows = rows + uniform(n_rays) - 0.5
        rays = scene.cameras.rays(ids, columns, rows)
        alpha = scene.alpha(pixels)
        return RayBatch(rays, rgb, background.expand(n_rays, 3), alpha, ids, index)

    def _redraw(
        self, ids: Tensor, columns: Tensor, rows: Tensor, share: float, draw: Callable[..., Tensor]
    ) -> None:
        """Replace the pixels that do not count, in place, by others of the same image: so every
        image keeps its share of the rays."""
        scene = self.scene
        assert scene.masks is not None
        across, down = _central(scene.cameras.width, share), _central(scene.cameras.height, share)
        for _ in range(N_REDRAWS):
            wrong = (~scene.counts(ids, columns, rows)).nonzero().squeeze(-1)
            columns[wrong] = draw(*across, len(wrong))
            rows[wrong] = draw(*down, len(wrong))
        wrong = ~scene.counts(ids, columns, rows)
        for image in ids[wrong].unique().tolist():
            places = scene.masks[image, slice(*down), slice(*across)].nonzero()
            if len(places) == 0:
                raise UserError(
                    f"no pixel of {scene.names[image]} counts where rays are drawn: correct its "
                    "mask, leave the photo out, or set precrop_steps to 0"
                )
            own = wrong & (ids == image)
            chosen = places[draw(0, len(places), int(own.sum()))]
            rows[own], columns[own] = chosen[:, 0] + down[0], chosen[:, 1] + across[0]


@dataclass(frozen=True)
class Undrawn:
    """Training rays that the step itself draws, and those of steps before it that it takes as well.

    Args:
        source: from which.
        n_rays: how many in each step.
        share: of the width and height of the photographs, in their middle.
        index: number of the batch in the run, the last one's where there are several.
        n_steps: how many.
    """

    source: RaySource
    n_rays: int
    share: float
    index: int
    n_steps: int = 1

    def __len__(self) -> int:
        return self.n_rays

    def steps(self) -> list[Self]:
        """One by one."""
        first = self.index - self.n_steps + 1
        return [replace(self, index=i, n_steps=1) for i in range(first, self.index + 1)]

    def to(self, device: torch.device | str) -> Self:
        return self


class RandomRays(Iterable[RayBatch | Undrawn]):
    """One batch of random rays after the other, going on where the Trainer stands.

    Args:
        source: of the training views.
        trainer: how far the run is, and how far it goes.
    """

    def __init__(self, source: RaySource, trainer: pl.Trainer) -> None:
        self.source = source
        self.settings = source.settings
        self.trainer = trainer

    def __len__(self) -> int:
        return self.trainer.max_steps * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[RayBatch | Undrawn]:
        index = self.trainer.global_step * self.trainer.accumulate_grad_batches
        while index < len(self):
            if self.settings.last_together is None:
                yield self.batch(index)
            else:
                last = self.settings.last_together(index)
                yield self.undrawn(index, last)
                index = last
            index += 1

    def batch(self, index: int) -> RayBatch:
        """The rays of one batch: for one number of rays the same whenever they are asked for."""
        generator = step_generator("rays", index, self.trainer.global_rank, self.source.device)
        n_rays = self.settings.share(self.trainer.world_size)
        return self.source.draw(n_rays, self._share(index), index, generator)

    def undrawn(self, first: int, last: int) -> Undrawn:
        """Those of batches `first` to `last`, not drawn yet; of few different sizes, as each must
        be recorded."""
        n_rays = one_of_few(self.settings.share(self.trainer.world_size))
        return Undrawn(self.source, n_rays, self._share(first), last, last - first + 1)

    def _share(self, index: int) -> float:
        step = index // self.trainer.accumulate_grad_batches
        return self.settings.precrop_fraction if step < self.settings.precrop_steps else 1.0


def one_of_few(n_rays: float) -> int:
    """The nearest of numbers of which four come on each doubling; of one of them, itself."""
    return round(2 ** (round(4 * math.log2(n_rays)) / 4))


def _central(size: int, share: float) -> tuple[int, int]:
    """The range of the middle `share` of `size` pixels, at least one of them."""
    margin = min(math.floor(size * (1 - share) / 2), (size - 1) // 2)
    return margin, size - margin


class Views(Dataset[View]):
    """All views of a split, one after the other."""

    def __init__(self, scene: Scene, background: Tensor) -> None:
        self.scene = scene
        self.background = background

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index: int) -> View:
        scene = self.scene
        return View(
            scene.names[index],
            int(scene.view_ids[index]),
            scene.image(index, self.background),
            self.background,
            scene.cameras[[index]],
            None if scene.masks is None else scene.masks[index],
        )


def _place_for(scene: Scene, device: torch.device) -> torch.device:
    """Where rays are drawn: on a GPU where the photographs leave most of it free and there are no
    masks, for which it would be waited; else on the host."""
    if device.type != "cuda" or scene.masks is not None:
        return torch.device("cpu")
    free, _ = torch.cuda.mem_get_info(device)
    return device if 4 * scene.images.nbytes < free else torch.device("cpu")


class SceneDataModule(pl.LightningDataModule):
    """A capture, the few views of it that are trained on, and how rays are drawn from them.

    Args:
        reader: reads the capture.
        views: which training views are kept.
        val_views: which views validation renders, out of the capture's own validation split, or
            without one out of the training photographs that `views` left over.
        rays_per_step: rays in a training step, or in the first one, over all devices.
        samples_per_step: how many samples a step shall come to, over all devices, whatever their
            number on a ray: the number of rays follows, so that a step costs the same all through
            training.
        batch_per_device: let those two numbers count for each device, so that a step grows with
            the number of devices, and multiply the learning rate by that number (the linear rule
            of Goyal et al. 2017).
        one_image_per_step: draw all rays of a step from one photograph, as the paper does, not from
            all.
        background: what stands behind transparent pixels. `random` draws a colour for each ray and
            so teaches the field which pixels are transparent (with alpha that is more supervision
            than the paper has), and that photographs without alpha are opaque everywhere;
            validation and test are then on white. `auto` is white for photographs with alpha and
            random for others.
        pixel_jitter: let rays go through any point of their pixel, which shows the mean of what is
            behind all of it, not through its middle.
        precrop_steps: take rays from the middle of the photographs during the first steps.
        precrop_fraction: share of the width and height that this middle is.
    """

    def __init__(
        self,
        reader: AbstractReader,
        views: AbstractViews | None = None,
        val_views: AbstractViews | None = None,
        rays_per_step: int = 1024,
        samples_per_step: int | None = None,
        batch_per_device: bool = False,
        one_image_per_step: bool = False,
        background: Background = "white",
        pixel_jitter: bool = False,
        precrop_steps: int = 0,
        precrop_fraction: float = 0.5,
    ) -> None:
        super().__init__()
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
        # Set by a system whose steps draw their rays: the last step to be taken with a given one.
        self.last_together: Callable[[int], int] | None = None
        self.scenes: dict[Split, Scene] = {}

    def share(self, n_devices: int) -> int:
        """How many rays of the next step one device takes."""
        return self.n_rays if self.batch_per_device else max(1, self.n_rays // n_devices)

    def check_devices(self, subcommand: str, n_devices: int) -> None:
        """Refuse what is too small to be shared out: the rays of a step, or the views.

        Raises:
            UserError: a device would have none.
        """
        scene = self.scenes.get("val" if subcommand == "validate" else "test")
        if subcommand != "fit" and scene is not None and len(scene) < n_devices:
            raise UserError(
                f"there are fewer views ({len(scene)}) than devices ({n_devices}): use "
                f"--trainer.devices {len(scene)}"
            )
        if subcommand == "fit" and not self.batch_per_device and self.n_rays < n_devices:
            raise UserError(
                f"rays_per_step is {self.n_rays}, fewer than the {n_devices} devices: give each at "
                "least one ray, or use fewer devices"
            )

    def adapt(self, n_rays: int, n_samples: int) -> None:
        """Choose the number of rays of the next step, by the samples that the last rays came to."""
        if self.samples_per_step is None:
            return
        fitting = self.samples_per_step * n_rays / max(n_samples, 1)
        # What a batch shows of the mean is noisy, and a grid that is just being emptied runs away.
        fitting = min(max(fitting, 0.5 * self.n_rays, 1), 2 * self.n_rays, MAX_RAYS)
        if self.last_together is None:
            self.n_rays = round(fitting)
        elif not 1 / SLACK <= fitting / self.n_rays <= SLACK:  # each size must be recorded
            self.n_rays = one_of_few(fitting)

    def state_dict(self) -> dict[str, Any]:
        return {"n_rays": self.n_rays, "n_rays_of_each": gathered([self.n_rays])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        of_each = state_dict["n_rays_of_each"]
        if not all(type(n) is int and 1 <= n <= MAX_RAYS for n in (state_dict["n_rays"], *of_each)):
            raise UserError(
                f"the checkpoint has a number of rays that no step has: {of_each!r:.60}"
            )
        self.n_rays = state_dict["n_rays"]
        if len(of_each) == n_processes():  # as before, each with its own number
            (own,) = own_share(len(of_each))
            self.n_rays = of_each[own]

    def setup(self, stage: str) -> None:
        if stage in ("fit", "validate") and "train" not in self.scenes:
            self._read_train_and_val()
        if stage in ("test", "predict") and "test" not in self.scenes:
            self._read_test()

    def _read_train_and_val(self) -> None:
        train = self._needed("train")
        kept = self.views.choose(train.cameras, train.view_ids)
        chosen: dict[Split, tuple[Listing, list[int]]] = {"train": (train, kept)}
        val = self.reader.listing("val")
        candidates = list(range(len(val or ())))
        if val is None:
            val, candidates = train, sorted(set(range(len(train))) - set(kept))
        if candidates:
            picked = self.val_views.choose(val.cameras[candidates], val.view_ids[candidates])
            chosen["val"] = (val, [candidates[i] for i in picked])
        self._read(chosen)
        if self.is_auto_background:
            self.has_random_background = not self.scenes["train"].has_alpha

    def _read_test(self) -> None:
        test = self._needed("test")
        self._read({"test": (test, list(range(len(test))))})

    def _needed(self, split: Split) -> Listing:
        listing = self.reader.listing(split)
        if listing is None:
            raise UserError(
                f"no photo of this capture was kept for {split}: to keep every 8th, train it with "
                "--data.reader.init_args.hold_every 8"
            )
        return listing

    def _read(self, chosen: dict[Split, tuple[Listing, list[int]]]) -> None:
        """Read the views at the chosen positions of each split, and no others."""
        check_memory(list(chosen.values()))
        for split, (listing, keep) in chosen.items():
            self.scenes[split] = without_full_alpha(listing.read(keep))

    def capture(self) -> Capture:
        """What a checkpoint keeps: the cameras of all splits, the photographs of none."""
        cameras = {split: scene.cameras for split, scene in self.scenes.items()}
        for split in ("val", "test"):
            everything = self.reader.cameras(split)
            if everything is not None:
                cameras[split] = everything
        view_ids = {split: scene.view_ids.tolist() for split, scene in self.scenes.items()}
        return Capture(cameras, view_ids, self.background)

    def protocol(self) -> str:
        """What the test views are, in words, for a table of results."""
        test = self.scenes["test"]
        size = f"{test.cameras.width}x{test.cameras.height}"
        tone = "black" if self.background.sum() == 0 else "white"
        return f"{type(self.reader).__name__}, {len(test)} test views at {size} on {tone}"

    def views_rule(self) -> dict[str, Any]:
        """How the training views were chosen: the rule's name and its settings, seed included."""
        return {"rule": type(self.views).__name__, **vars(self.views)}

    def train_dataloader(self) -> RandomRays:
        assert self.trainer is not None, "the Trainer asks for batches"
        scene, device = self.scenes["train"], self.trainer.strategy.root_device
        return RandomRays(RaySource(scene, self, _place_for(scene, device)), self.trainer)

    def val_dataloader(self) -> DataLoader[View] | list[DataLoader[View]]:
        return self._views("val") if "val" in self.scenes else []

    def test_dataloader(self) -> DataLoader[View]:
        return self._views("test")

    def predict_dataloader(self) -> DataLoader[View]:
        return self._views("test")

    def _views(self, split: Split) -> DataLoader[View]:
        views = Views(self.scenes[split], self.background)
        share = own_share(len(views)) or range(1)  # not counted, but Lightning wants to see one
        return DataLoader(Subset(views, share), batch_size=None)
